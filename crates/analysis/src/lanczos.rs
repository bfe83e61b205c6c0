//! The Lanczos process with full reorthogonalisation: a symmetric operator, known only by its products with vectors, becomes
//! a small tridiagonal matrix whose extreme eigenvalues are the operator's (Golub and Van Loan 2013, section 10.1).

use flatmin_nn::{Dtype, ParameterArena};
use flatmin_optim::{Neighbourhood, Noise};
use tch::Tensor;

use crate::arena::{add, copy, scale, symmetric_eigen};
use crate::error::{Error, Result};

/// A symmetric operator on arenas.
pub(crate) type Operator<'a> = dyn Fn(&Tensor) -> Result<Tensor> + 'a;

pub(crate) struct Lanczos<'a> {
    operator: &'a Operator<'a>,
    ball: &'a Neighbourhood,
    parameters: &'a ParameterArena,
    basis: Vec<Tensor>,
    diagonal: Vec<f64>,
    /// `off_diagonal[j]` lies between rows j and j + 1; the last one leads out of the space.
    off_diagonal: Vec<f64>,
    next: Option<Tensor>,
}

/// Takes out of `vector` what lies along a basis, twice: what rounding leaves of the first time is gone after the second
/// (Giraud 2005).
pub(crate) fn orthogonalise(
    ball: &Neighbourhood,
    parameters: &ParameterArena,
    basis: &[Tensor],
    vector: &mut Tensor,
) -> Result<()> {
    for _ in 0..2 {
        for other in basis {
            add(vector, -ball.inner(parameters, other, vector)?, other)?;
        }
    }
    Ok(())
}

/// The relative rounding error of a model's numbers.
pub(crate) fn rounding(parameters: &ParameterArena) -> f64 {
    match parameters.dtype() {
        Dtype::Float64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

/// An eigenvalue of the tridiagonal matrix.
#[derive(Debug, Clone)]
pub(crate) struct Ritz {
    pub value: f64,
    /// norm2(A x - value x), but for rounding.
    pub residual: f64,
    /// Coordinates of x in the basis.
    pub coordinates: Vec<f64>,
}

impl<'a> Lanczos<'a> {
    /// Starts from a vector of norm2 1.
    pub fn new(
        operator: &'a Operator<'a>,
        ball: &'a Neighbourhood,
        parameters: &'a ParameterArena,
        start: Tensor,
    ) -> Self {
        let next = Some(start);
        Self { operator, ball, parameters, basis: Vec::new(), diagonal: Vec::new(), off_diagonal: Vec::new(), next }
    }

    pub fn steps(&self) -> usize {
        self.basis.len()
    }

    /// One product with the operator. False if the space cannot grow: it is invariant, its eigenvalues exact.
    pub fn step(&mut self) -> Result<bool> {
        let Some(vector) = self.next.take() else { return Ok(false) };
        let mut image = (self.operator)(&vector)?;
        let diagonal = self.inner(&vector, &image)?;
        if !diagonal.is_finite() {
            return Err(Error::NonFinite {
                what: "a product with the Hessian".into(),
                hint: "check weights and images",
            });
        }
        self.basis.push(vector);
        self.diagonal.push(diagonal);
        self.orthogonalise(&mut image)?;
        let norm = self.ball.norm2(self.parameters, &image)?;
        let largest = self.diagonal.iter().chain(&self.off_diagonal).fold(0.0_f64, |max, value| max.max(value.abs()));
        if norm <= 10.0 * rounding(self.parameters) * largest || self.basis.len() == self.ball.dimensions() {
            self.off_diagonal.push(0.0);
            return Ok(true);
        }
        self.off_diagonal.push(norm);
        scale(&mut image, 1.0 / norm)?;
        self.next = Some(image);
        Ok(true)
    }

    /// Goes on in a new direction once the space is invariant: further copies of an eigenvalue lie there.
    pub fn restart(&mut self, seed: u64) -> Result<()> {
        if self.next.is_some() || self.basis.len() == self.ball.dimensions() {
            return Ok(());
        }
        let mut fresh = self.ball.random(self.parameters, Noise::Normal, seed)?;
        self.orthogonalise(&mut fresh)?;
        let norm = self.ball.norm2(self.parameters, &fresh)?;
        if norm > 0.0 {
            scale(&mut fresh, 1.0 / norm)?;
            self.next = Some(fresh);
        }
        Ok(())
    }

    fn orthogonalise(&self, vector: &mut Tensor) -> Result<()> {
        orthogonalise(self.ball, self.parameters, &self.basis, vector)
    }

    fn inner(&self, a: &Tensor, b: &Tensor) -> Result<f64> {
        Ok(self.ball.inner(self.parameters, a, b)?)
    }

    /// All eigenvalues of the tridiagonal matrix, ascending.
    pub fn ritz(&self) -> Result<Vec<Ritz>> {
        let size = self.diagonal.len();
        let mut rows = vec![0.0; size * size];
        for (at, &value) in self.diagonal.iter().enumerate() {
            rows[at * size + at] = value;
        }
        for (at, &value) in self.off_diagonal.iter().enumerate().take(size.saturating_sub(1)) {
            rows[at * size + at + 1] = value;
            rows[(at + 1) * size + at] = value;
        }
        let (values, vectors) = symmetric_eigen(&rows, size)?;
        let out = self.off_diagonal.last().copied().unwrap_or(0.0);
        let ritz = values.into_iter().zip(vectors).map(|(value, coordinates)| {
            let residual = (out * coordinates.last().copied().unwrap_or(0.0)).abs();
            Ritz { value, residual, coordinates }
        });
        Ok(ritz.collect())
    }

    /// The eigenvector of a Ritz value, of norm2 1.
    pub fn vector(&self, ritz: &Ritz) -> Result<Tensor> {
        let mut sum = self.parameters.like()?;
        for (&coordinate, vector) in ritz.coordinates.iter().zip(&self.basis) {
            add(&mut sum, coordinate, vector)?;
        }
        copy(&sum)
    }
}
