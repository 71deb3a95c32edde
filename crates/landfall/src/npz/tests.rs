use std::io::{Cursor, Write};

use landfall_tensor::{Buffer, DType, Shape, Tensor};
use proptest::prelude::*;

use super::header::{Header, parse};
use super::*;

fn round_trip(arrays: &[(String, Tensor)]) -> Arrays {
    let mut file = Cursor::new(Vec::new());
    write_to(&mut file, arrays).unwrap();
    read_from(file).unwrap()
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn read_one(header: &str, data: &[u8]) -> Result<Tensor, String> {
    array::read(&mut npy(header, data).as_slice(), 1 << 20)
}

#[test]
fn every_type_round_trips() {
    let shape = || Shape::from([2, 1]);
    let text = Tensor::from_strings(shape(), vec!["naïve 🛬".into(), String::new()]).unwrap();
    let blobs = [Buffer::copy_of(b"\x00\xff"), Buffer::copy_of(b"")];
    let blobs = Tensor::from_blobs(shape(), blobs.to_vec()).unwrap();
    let mut arrays = vec![("text".to_owned(), text), ("a/b:0".to_owned(), blobs)];
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.size() > 0) {
        let bytes: Vec<u8> = (0..2 * dtype.size() as u8).map(|i| i % 2).collect();
        let tensor = Tensor::from_bytes(dtype, shape(), &bytes).unwrap();
        arrays.push((dtype.name().to_owned(), tensor));
    }
    arrays.push(("scalar".to_owned(), Tensor::scalar(1.5f32)));
    arrays
        .push(("vector".to_owned(), Tensor::from_slice(Shape::from([3]), &[1i64, 2, 3]).unwrap()));
    assert_eq!(round_trip(&arrays), arrays);
}

#[test]
fn deflated_archives_are_read() {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Deflated);
    archive.start_file("x.npy", options).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000,), }\n";
    archive.write_all(&npy(header, &[0; 4000])).unwrap();
    let arrays = read_from(archive.finish().unwrap()).unwrap();
    assert_eq!(arrays[0].0, "x");
    assert_eq!(arrays[0].1.shape().to_vec(), [1000]);
}

#[test]
fn other_orders_are_normalised() {
    let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }";
    let columns = [1i16, 4, 2, 5, 3, 6].map(i16::to_be_bytes).concat();
    let tensor = read_one(header, &columns).unwrap();
    assert_eq!(tensor.as_slice::<i16>().unwrap(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn what_cannot_be_read_is_explained() {
    let float =
        |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}");
    let cases = [
        (float("(2,)"), "needs 8 bytes, found 4"),
        (float("(0,)"), "needs 0 bytes, found more"),
        (float("(99999999999,)"), "exceeds the limit"),
        (float("(4294967296, 4294967296)"), "exceeds the limit"),
        (float("(-1,)"), "should have a size"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': ()}".into(), "Python objects"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}".into(), "records"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': ()}".into(), "'<c8' is not supported"),
        ("{'descr': '<f4'}".into(), "lacks 'fortran_order'"),
    ];
    for (header, message) in cases {
        let error = read_one(&header, &[0; 4]).unwrap_err();
        assert!(error.contains(message), "{header}: {error}");
    }
    let error = read_one("{'descr': '<U1', 'fortran_order': False, 'shape': ()}", &[255; 4]);
    assert!(error.unwrap_err().contains("not a character"));
    let error = read_from(Cursor::new(b"hello".to_vec())).unwrap_err().to_string();
    assert!(error.starts_with("not an NPZ archive"), "{error}");
}

proptest! {
    #[test]
    fn headers_never_panic(text in "[{}()',: a-z0-9<>|L\\[\\]é]{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn damaged_archives_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = Tensor::from_strings(Shape::from([2]), vec!["ab".into(), "c".into()]).unwrap();
        let arrays = [("x".to_owned(), Tensor::scalar(1i32)), ("t".to_owned(), text)];
        let mut file = Cursor::new(Vec::new());
        write_to(&mut file, &arrays).unwrap();
        let mut bytes = file.into_inner();
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_from(Cursor::new(bytes.clone()));
        bytes.truncate(cut.index(bytes.len()));
        let _ = read_from(Cursor::new(bytes));
    }

    #[test]
    fn shapes_round_trip_in_headers(shape in prop::collection::vec(0usize..5, 0..6)) {
        let tensor = Tensor::zeros(DType::F32, Shape::from(shape.clone())).unwrap();
        let bytes = array::header(&tensor);
        prop_assert_eq!(bytes.len() % 64, 0);
        let text = std::str::from_utf8(&bytes[10..]).unwrap();
        let expected = Header { descr: "<f4".into(), fortran_order: false, shape };
        prop_assert_eq!(parse(text).unwrap(), expected);
    }
}
