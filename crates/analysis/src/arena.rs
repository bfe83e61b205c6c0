//! Small arithmetic on arenas, the flat vectors that points and directions in weight space are.

use tch::{Kind, Tensor, no_grad};

use crate::error::Result;

/// A copy of its own.
pub(crate) fn copy(arena: &Tensor) -> Result<Tensor> {
    Ok(no_grad(|| arena.f_alias_copy())?)
}

/// y += a x.
pub(crate) fn add(y: &mut Tensor, a: f64, x: &Tensor) -> Result<()> {
    let _ = no_grad(|| y.f_add_(&x.f_mul_scalar(a)?))?;
    Ok(())
}

/// y *= a.
pub(crate) fn scale(y: &mut Tensor, a: f64) -> Result<()> {
    let _ = no_grad(|| y.f_mul_scalar_(a))?;
    Ok(())
}

/// Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix given by rows.
pub(crate) fn symmetric_eigen(rows: &[f64], size: usize) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let size = size as i64;
    let (values, vectors) = Tensor::f_from_slice(rows)?.f_view([size, size])?.f_linalg_eigh("L")?;
    let columns = vectors.f_transpose(0, 1)?.f_contiguous()?.f_to_kind(Kind::Double)?;
    Ok((Vec::try_from(values)?, Vec::try_from(columns)?))
}
