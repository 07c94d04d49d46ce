//! Writing NumPy's `.npy`: version 1.0, little-endian f32, C order, two dimensions.
//! Source: the format's description in NumPy's documentation, `numpy.lib.format`.

/// The header's length, magic included, is a multiple of this so that the data is aligned when mapped.
const ALIGNMENT: usize = 64;
/// Magic, version and the header's length field.
const PREFIX: usize = 10;

/// The bytes before the data of a `[rows, columns]` array.
pub fn header(rows: usize, columns: usize) -> Vec<u8> {
    let mut dictionary =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}").into_bytes();
    let total = (PREFIX + dictionary.len() + 1).next_multiple_of(ALIGNMENT);
    dictionary.resize(total - PREFIX - 1, b' ');
    dictionary.push(b'\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // Two numbers of at most 20 digits keep this far below 65536.
    bytes.extend_from_slice(&(dictionary.len() as u16).to_le_bytes());
    bytes.append(&mut dictionary);
    bytes
}

/// Appends one row's bytes to `bytes`.
pub fn row(values: &[f32], bytes: &mut Vec<u8>) {
    bytes.reserve(values.len() * 4);
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_is_what_numpy_writes() {
        let header = super::header(3, 2048);
        assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(header.len(), 128);
        let text = std::str::from_utf8(&header[10..]).unwrap();
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2048), }");
        assert!(text.ends_with(" \n"));
        assert_eq!(super::header(usize::MAX, usize::MAX).len() % 64, 0);
        let mut bytes = Vec::new();
        super::row(&[1.0, -2.0], &mut bytes);
        assert_eq!(bytes, [0, 0, 128, 63, 0, 0, 0, 192]);
    }
}
