//! Protobuf wire format without a schema: enough to change one field and keep the rest well-formed.

/// Nesting beyond this is kept as bytes.
const DEPTH_MAX: usize = 40;

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) payload: Payload,
}

/// A field's value by wire type; what parses as a message is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Payload {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

impl Field {
    pub(super) fn new(number: u64, payload: Payload) -> Field {
        Field { number, payload }
    }

    pub(super) fn text(number: u64, text: &str) -> Field {
        Field::new(number, Payload::Bytes(text.as_bytes().to_vec()))
    }
}

/// The fields of a message; `None` if the bytes are not one.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Field>> {
    parse_at(bytes, 0)
}

fn parse_at(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let payload = match tag & 7 {
            0 => Payload::Varint(take_varint(&mut bytes)?),
            1 => Payload::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                nested(take(&mut bytes, length)?, depth)
            }
            5 => Payload::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        let number = tag >> 3;
        if number == 0 || number > 1000 {
            return None;
        }
        fields.push(Field { number, payload });
    }
    Some(fields)
}

fn nested(content: &[u8], depth: usize) -> Payload {
    let message = if depth < DEPTH_MAX { parse_at(content, depth + 1) } else { None };
    match message {
        Some(fields) if !fields.is_empty() => Payload::Message(fields),
        _ => Payload::Bytes(content.to_vec()),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The bytes of a message.
pub(super) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        encode_field(field, &mut out);
    }
    out
}

fn encode_field(field: &Field, out: &mut Vec<u8>) {
    let tag = |wire_type: u64| field.number << 3 | wire_type;
    match &field.payload {
        Payload::Varint(value) => {
            put_varint(tag(0), out);
            put_varint(*value, out);
        }
        Payload::Fixed64(bytes) => {
            put_varint(tag(1), out);
            out.extend(bytes);
        }
        Payload::Fixed32(bytes) => {
            put_varint(tag(5), out);
            out.extend(bytes);
        }
        Payload::Bytes(bytes) => put_bytes(tag(2), bytes, out),
        Payload::Message(fields) => put_bytes(tag(2), &encode(fields), out),
    }
}

fn put_bytes(tag: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(tag, out);
    put_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// Appends a variable-length integer.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let inner = vec![Field::text(3, "ab"), Field::new(1, Payload::Varint(u64::MAX))];
        let fields = vec![
            Field::new(7, Payload::Message(inner)),
            Field::new(2, Payload::Fixed32([1, 2, 3, 4])),
            Field::new(15, Payload::Fixed64([9; 8])),
            Field::new(16, Payload::Bytes(vec![])),
        ];
        assert_eq!(parse(&encode(&fields)), Some(fields));
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        assert_eq!(parse(&[0x0a, 5, 1]), None);
        assert_eq!(parse(&[0xff; 11]), None);
    }
}
