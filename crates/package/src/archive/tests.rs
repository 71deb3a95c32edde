//! Round trips, alignment, ZIP64 and mutation of archives.

use proptest::prelude::*;

use super::{ALIGNMENT, Limits, Part, name_problem, read, write};

fn archive(parts: &[(&str, &[u8])], limits: Limits) -> Vec<u8> {
    let parts: Vec<Part<'_>> =
        parts.iter().map(|(name, bytes)| Part::new((*name).to_owned(), *bytes)).collect();
    let mut out = Vec::new();
    write(&mut out, &parts, limits).unwrap();
    out
}

const SAMPLE: [(&str, &[u8]); 3] =
    [("manifest.json", b"{}"), ("weights/0", &[7; 100]), ("empty", b"")];

#[test]
fn entries_come_back_aligned_with_or_without_zip64() {
    for bytes in [u64::from(u32::MAX), 50, 1] {
        for entries in [u64::from(u16::MAX), 1] {
            let file = archive(&SAMPLE, Limits { bytes, entries });
            let found = read(&file).unwrap();
            assert_eq!(found.len(), SAMPLE.len());
            for (entry, (name, data)) in found.iter().zip(SAMPLE) {
                assert_eq!(entry.name, name);
                assert_eq!(&file[entry.data.clone()], data);
                assert_eq!(entry.data.start % ALIGNMENT, 0);
                assert_eq!(entry.crc32, crc32fast::hash(data));
            }
        }
    }
}

#[test]
fn an_empty_archive_is_an_archive() {
    assert_eq!(read(&archive(&[], Limits::default())).unwrap(), []);
}

#[test]
fn names_stay_below_the_folder() {
    for bad in ["", "/a", "../a", "a/../b", "a//b", "a/", ".", "a\\b", "é", "a\0", "c:x"] {
        assert!(name_problem(bad).is_some(), "{bad:?}");
        let file = archive(&[(bad, b"x")], Limits::default());
        assert!(read(&file).is_err(), "{bad:?}");
    }
    assert_eq!(name_problem("assets/bert-base v1.0/vocab_1.txt"), None);
}

#[test]
fn duplicates_truncation_and_trailing_bytes_are_refused() {
    let twice = archive(&[("a", b"1"), ("a", b"2")], Limits::default());
    assert!(read(&twice).unwrap_err().to_string().contains("occurs twice"));
    let good = archive(&SAMPLE, Limits::default());
    for len in 0..good.len() {
        assert!(read(&good[..len]).is_err(), "cut to {len} bytes");
    }
    let mut longer = good;
    longer.push(0);
    assert!(read(&longer).unwrap_err().to_string().contains("bytes appended"));
}

#[test]
fn lies_about_sizes_allocate_nothing() {
    let mut file = archive(&SAMPLE, Limits::default());
    let end = file.len() - 22;
    file[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    assert!(read(&file).unwrap_err().to_string().contains("65534 entries do not fit"));
}

proptest! {
    #[test]
    fn mutations_never_panic_and_keep_ranges_inside(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        zip64 in any::<bool>(),
    ) {
        let limits = if zip64 { Limits { bytes: 40, entries: 2 } } else { Limits::default() };
        let mut file = archive(&SAMPLE, limits);
        for (index, value) in edits {
            let at = index.index(file.len());
            file[at] = value;
        }
        if let Ok(entries) = read(&file) {
            let mut at = 0;
            for entry in entries {
                prop_assert!(entry.data.start >= at && entry.data.end <= file.len());
                prop_assert!(name_problem(&entry.name).is_none());
                at = entry.data.end;
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&noise).is_err());
    }
}
