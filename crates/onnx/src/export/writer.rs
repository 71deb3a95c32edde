//! Protobuf messages under construction; large payloads are shared, not copied, until written.

use std::io::{self, Write};

use landfall_tensor::Buffer;

/// Payloads from this size on are shared.
const SHARED_BYTES: usize = 4096;

enum Piece {
    Own(Vec<u8>),
    Shared(Buffer),
}

/// The fields of one message.
#[derive(Default)]
pub(crate) struct Writer {
    pieces: Vec<Piece>,
    len: usize,
}

impl Writer {
    /// Bytes of the message.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn int(&mut self, number: u32, value: i64) {
        self.key(number, 0);
        self.varint(value as u64);
    }

    pub(crate) fn float(&mut self, number: u32, value: f32) {
        self.key(number, 5);
        self.push(&value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, number: u32, value: &str) {
        self.bytes(number, value.as_bytes());
    }

    pub(crate) fn bytes(&mut self, number: u32, value: &[u8]) {
        self.key(number, 2);
        self.varint(value.len() as u64);
        self.push(value);
    }

    pub(crate) fn buffer(&mut self, number: u32, value: &Buffer) {
        if value.len() < SHARED_BYTES {
            return self.bytes(number, value);
        }
        self.key(number, 2);
        self.varint(value.len() as u64);
        self.len += value.len();
        self.pieces.push(Piece::Shared(value.clone()));
    }

    pub(crate) fn message(&mut self, number: u32, message: Writer) {
        self.key(number, 2);
        self.varint(message.len as u64);
        self.len += message.len;
        for piece in message.pieces {
            match (self.pieces.last_mut(), piece) {
                (Some(Piece::Own(last)), Piece::Own(bytes)) => last.extend(bytes),
                (_, piece) => self.pieces.push(piece),
            }
        }
    }

    pub(crate) fn ints(&mut self, number: u32, values: &[i64]) {
        values.iter().for_each(|&value| self.int(number, value));
    }

    pub(crate) fn floats(&mut self, number: u32, values: &[f32]) {
        values.iter().for_each(|&value| self.float(number, value));
    }

    /// Writes the message.
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Own(bytes) => out.write_all(bytes)?,
                Piece::Shared(buffer) => out.write_all(buffer)?,
            }
        }
        Ok(())
    }

    fn key(&mut self, number: u32, wire_type: u32) {
        self.varint(u64::from(number << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        let mut bytes = [0u8; 10];
        let mut used = 0;
        loop {
            bytes[used] = (value & 0x7f) as u8;
            value >>= 7;
            used += 1;
            if value == 0 {
                break;
            }
            bytes[used - 1] |= 0x80;
        }
        self.push(&bytes[..used]);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Own(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Own(bytes.to_vec())),
        }
    }
}
