//! Per-thread scratch memory: grows to the largest need once, then is reused without allocation.

use std::cell::RefCell;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` elements, aligned to a cache line, with unspecified contents, to `f`.
/// Nested calls get distinct memory.
pub(crate) fn with<T: bytemuck::AnyBitPattern + bytemuck::NoUninit, R>(
    len: usize,
    f: impl FnOnce(&mut [T]) -> R,
) -> R {
    let mut lines = FREE.with(|free| free.borrow_mut().pop()).unwrap_or_default();
    let needed = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    if lines.len() < needed {
        lines.resize(needed, Line([0; 64]));
    }
    // SAFETY: a Line is 64 initialised bytes without padding, more aligned than any element type
    // used here (asserted); the vector holds at least `len` elements; T accepts any bits.
    let slice = unsafe {
        assert!(align_of::<T>() <= align_of::<Line>());
        std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<T>(), len)
    };
    let result = f(slice);
    FREE.with(|free| free.borrow_mut().push(lines));
    result
}

/// Fills what this thread will next borrow, up to 1 MiB each time and four nested, with bytes that
/// make NaNs: no kernel may depend on what its scratch memory holds.
#[cfg(test)]
pub(crate) fn spoil() {
    fn nested(depth: usize) {
        with(1 << 20, |bytes: &mut [u8]| {
            bytes.fill(0xff);
            if depth > 1 {
                nested(depth - 1);
            }
        });
    }
    nested(4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_loans_are_distinct_and_reused() {
        let first = with::<f32, _>(100, |a| {
            a.fill(1.0);
            with::<f32, _>(100, |b| b.fill(2.0));
            assert!(a.iter().all(|&x| x == 1.0));
            a.as_ptr() as usize
        });
        assert_eq!(first % 64, 0);
        let again = with::<u8, _>(10, |a| a.as_ptr() as usize);
        let other = with::<u8, _>(10, |a| a.as_ptr() as usize);
        assert_eq!(again, other);
    }
}
