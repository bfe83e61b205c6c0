//! State dicts that `torch.load` reads, with `weights_only=True` as well: the archive of [`super::zip`], its pickle a plain
//! `OrderedDict` of tensors.

use std::io::{Seek, Write};

use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter, result::ZipError};

use super::zip::SPEC_ENTRY;

/// What PyTorch aligns storages to, so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// Writes contiguous tensors and, in an entry that PyTorch passes over, the spec.
pub(crate) fn write(
    file: &mut (impl Write + Seek),
    tensors: &[(String, Tensor)],
    spec: Option<&str>,
    payload: impl Fn(&Tensor) -> Result<Vec<u8>, tch::TchError>,
) -> std::io::Result<()> {
    let mut archive = ZipWriter::new(file);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT)
        .large_file(true);
    let mut entry = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), options).map_err(io_error)?;
        archive.write_all(bytes)
    };
    entry("data.pkl", &pickle(tensors)?)?;
    entry("byteorder", b"little")?;
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        entry(&format!("data/{index}"), &payload(tensor).map_err(std::io::Error::other)?)?;
    }
    entry("version", b"3\n")?;
    if let Some(spec) = spec {
        entry(SPEC_ENTRY, spec.as_bytes())?;
    }
    archive.finish().map_err(io_error)?;
    Ok(())
}

fn io_error(error: ZipError) -> std::io::Error {
    match error {
        ZipError::Io(error) => error,
        other => std::io::Error::other(other),
    }
}

/// Protocol 2.
fn pickle(tensors: &[(String, Tensor)]) -> std::io::Result<Vec<u8>> {
    let mut out = vec![0x80, 2];
    ordered_dict(&mut out);
    out.push(b'(');
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        text(&mut out, name);
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.extend(b"((");
        text(&mut out, "storage");
        global(&mut out, "torch", storage_class(tensor.kind())?);
        text(&mut out, &index.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.numel() as i64);
        out.extend(b"tQ");
        integer(&mut out, 0);
        tuple(&mut out, &tensor.size());
        tuple(&mut out, &tensor.stride());
        // requires_grad: false.
        out.push(0x89);
        ordered_dict(&mut out);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend(b")R");
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    out.extend([0x8a, 8]);
    out.extend(value.to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, values: &[i64]) {
    out.push(b'(');
    for &value in values {
        integer(out, value);
    }
    out.push(b't');
}

fn storage_class(kind: Kind) -> std::io::Result<&'static str> {
    match kind {
        Kind::Float => Ok("FloatStorage"),
        Kind::Double => Ok("DoubleStorage"),
        Kind::Int64 => Ok("LongStorage"),
        other => Err(std::io::Error::other(format!("no model has tensors of {other:?}"))),
    }
}
