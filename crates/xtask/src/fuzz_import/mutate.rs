//! Hostile models made from honest ones: bytes changed blindly, fields knowingly, and bombs.

use super::random::Random;
use super::wire::{self, Field, Payload};

const MUTATIONS_MAX: usize = 4;
const NESTING_MAX: usize = 3000;
/// ModelProto.graph
const MODEL_GRAPH: u64 = 7;
/// ModelProto.functions
const MODEL_FUNCTIONS: u64 = 25;

const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    7,
    0x7f,
    0xff,
    0x7fff,
    0xffff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    1 << 40,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
    u64::MAX - 1,
    0x2000_0000_0000_0001,
];

const HOSTILE_TEXTS: [&str; 8] = [
    "",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "\0",
    "-9223372036854775808",
    "ij,jk->ijk,...->",
    "If",
];

/// Models to start from, with their names.
pub(super) type Corpus = Vec<(String, Vec<u8>)>;

/// Input number `iteration` of a run with that seed: the name of the model it comes from, and it.
pub(super) fn input(corpus: &Corpus, seed: u64, iteration: u64) -> (&str, Vec<u8>) {
    let mut random = Random::new(seed, iteration);
    let (name, base) = random.pick(corpus);
    let mut bytes = base.clone();
    for _ in 0..=random.below(MUTATIONS_MAX) {
        bytes = match wire::parse(&bytes) {
            Some(fields) if !random.one_in(4) => change_fields(fields, corpus, &mut random),
            _ => change_bytes(bytes, corpus, &mut random),
        };
    }
    (name, bytes)
}

fn change_bytes(mut bytes: Vec<u8>, corpus: &Corpus, random: &mut Random) -> Vec<u8> {
    let at = random.below(bytes.len().max(1));
    let end = (at + 1 + random.below(64)).min(bytes.len());
    if bytes.is_empty() {
        return random.pick(corpus).1.clone();
    }
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let piece: Vec<u8> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, piece);
        }
        5 => bytes.truncate(at),
        _ => {
            let other = &random.pick(corpus).1;
            bytes.truncate(at);
            bytes.extend(&other[random.below(other.len())..]);
        }
    }
    bytes
}

fn change_fields(mut fields: Vec<Field>, corpus: &Corpus, random: &mut Random) -> Vec<u8> {
    match random.below(16) {
        0 => nest_graph(&mut fields, random),
        1 => nest_type(&mut fields, random),
        2 => call_functions_in_a_ring(&mut fields, random),
        _ => change_one_field(&mut fields, corpus, random),
    }
    wire::encode(&fields)
}

/// Goes down a random path and changes one field where it ends.
fn change_one_field(fields: &mut Vec<Field>, corpus: &Corpus, random: &mut Random) {
    if fields.is_empty() {
        return;
    }
    let at = random.below(fields.len());
    if let Payload::Message(inner) = &mut fields[at].payload
        && !random.one_in(5)
    {
        return change_one_field(inner, corpus, random);
    }
    match random.below(8) {
        0 => drop(fields.remove(at)),
        1 => {
            let copies_max = if random.one_in(10) { 1000 } else { 3 };
            let copies = 1 + random.below(copies_max);
            let copy = fields[at].clone();
            fields.extend(std::iter::repeat_n(copy, copies));
        }
        2 => {
            let other = random.below(fields.len());
            fields.swap(at, other);
        }
        3 => fields[at].number = 1 + random.below(30) as u64,
        4 => {
            let other = random.below(fields.len());
            fields[at].payload = fields[other].payload.clone();
        }
        5 => {
            let donor = wire::parse(&random.pick(corpus).1).unwrap_or_default();
            if let Some(field) = find(&donor, fields[at].number, random) {
                fields[at] = field.clone();
            }
        }
        _ => change_payload(&mut fields[at].payload, random),
    }
}

fn change_payload(payload: &mut Payload, random: &mut Random) {
    match payload {
        Payload::Varint(value) => *value = *random.pick(&EXTREMES),
        Payload::Fixed64(bytes) => *bytes = random.pick(&EXTREMES).to_le_bytes(),
        Payload::Fixed32(bytes) => *bytes = (*random.pick(&EXTREMES) as u32).to_le_bytes(),
        Payload::Bytes(bytes) if random.one_in(2) => {
            *bytes = random.pick(&HOSTILE_TEXTS).as_bytes().to_vec();
        }
        Payload::Bytes(bytes) => {
            bytes.clear();
            for _ in 0..random.below(6) {
                wire::put_varint(*random.pick(&EXTREMES), bytes);
            }
        }
        Payload::Message(fields) => fields.clear(),
    }
}

/// A field of that number somewhere in a message.
fn find<'a>(fields: &'a [Field], number: u64, random: &mut Random) -> Option<&'a Field> {
    let start = random.below(fields.len().max(1));
    for field in fields[start..].iter().chain(&fields[..start]) {
        if field.number == number {
            return Some(field);
        }
        if let Payload::Message(inner) = &field.payload
            && let Some(found) = find(inner, number, random)
        {
            return Some(found);
        }
    }
    None
}

/// Puts the graph inside a branch of an `If`, inside a branch of an `If`, and so on.
fn nest_graph(model: &mut [Field], random: &mut Random) {
    let depth = 1 + random.below(NESTING_MAX);
    let Some(graph) = model.iter_mut().find(|field| field.number == MODEL_GRAPH) else { return };
    let mut content = wire::encode(std::slice::from_ref(graph));
    if let Payload::Message(fields) = &graph.payload {
        content = wire::encode(fields);
    }
    for _ in 0..depth {
        let attribute = [
            Field::text(1, "then_branch"),
            Field::new(20, Payload::Varint(5)),
            Field::new(6, Payload::Bytes(content)),
        ];
        let node = [
            Field::text(1, "c"),
            Field::text(2, "y"),
            Field::text(4, "If"),
            Field::new(5, Payload::Bytes(wire::encode(&attribute))),
        ];
        let inner = [Field::new(1, Payload::Bytes(wire::encode(&node))), Field::text(2, "g")];
        content = wire::encode(&inner);
    }
    graph.payload = Payload::Bytes(content);
}

/// Declares a graph input as a sequence of sequences of sequences, and so on.
fn nest_type(model: &mut [Field], random: &mut Random) {
    let depth = 1 + random.below(NESTING_MAX);
    let Some(graph) = model.iter_mut().find(|field| field.number == MODEL_GRAPH) else { return };
    let Payload::Message(fields) = &mut graph.payload else { return };
    let tensor = [Field::new(1, Payload::Varint(1))];
    let mut content = wire::encode(&[Field::new(1, Payload::Bytes(wire::encode(&tensor)))]);
    for _ in 0..depth {
        let element = wire::encode(&[Field::new(1, Payload::Bytes(content))]);
        content = wire::encode(&[Field::new(4, Payload::Bytes(element))]);
    }
    let info = [Field::text(1, "deep"), Field::new(2, Payload::Bytes(content))];
    fields.push(Field::new(11, Payload::Bytes(wire::encode(&info))));
}

/// Adds functions that call one another in a ring, and renames a node to call the first.
fn call_functions_in_a_ring(model: &mut Vec<Field>, random: &mut Random) {
    let ring = 1 + random.below(4);
    let name = |index: usize| format!("Ring{}", index % ring);
    for index in 0..ring {
        let call = [
            Field::text(1, "x"),
            Field::text(2, "y"),
            Field::text(4, &name(index + 1)),
            Field::text(7, "ring"),
        ];
        let twice = Field::new(7, Payload::Bytes(wire::encode(&call)));
        let function = [
            Field::text(1, &name(index)),
            Field::text(4, "x"),
            Field::text(5, "y"),
            twice.clone(),
            twice,
            Field::text(10, "ring"),
        ];
        model.push(Field::new(MODEL_FUNCTIONS, Payload::Bytes(wire::encode(&function))));
    }
    let graph = model.iter_mut().find(|field| field.number == MODEL_GRAPH);
    let Some(Payload::Message(fields)) = graph.map(|field| &mut field.payload) else { return };
    let node = [
        Field::text(1, "x"),
        Field::text(2, "ringed"),
        Field::text(4, &name(0)),
        Field::text(7, "ring"),
    ];
    fields.push(Field::new(1, Payload::Bytes(wire::encode(&node))));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn corpus() -> Corpus {
        let node = [Field::text(1, "x"), Field::text(2, "y"), Field::text(4, "Relu")];
        let graph = [Field::new(1, Payload::Message(node.to_vec())), Field::text(2, "g")];
        let model = [
            Field::new(1, Payload::Varint(8)),
            Field::new(MODEL_GRAPH, Payload::Message(graph.to_vec())),
        ];
        vec![("relu".to_owned(), wire::encode(&model))]
    }

    #[test]
    fn an_input_is_reproduced_from_seed_and_number() {
        let corpus = corpus();
        for iteration in 0..200 {
            assert_eq!(input(&corpus, 7, iteration), input(&corpus, 7, iteration));
        }
        let different: HashSet<Vec<u8>> =
            (0..200).map(|iteration| input(&corpus, 7, iteration).1).collect();
        assert!(different.len() > 150, "{}", different.len());
        assert_ne!(input(&corpus, 7, 0).1, input(&corpus, 8, 0).1);
    }

    #[test]
    fn bombs_nest_deeply_in_few_bytes() {
        let (_, base) = &corpus()[0];
        for bomb in [nest_graph, nest_type] {
            let mut fields = wire::parse(base).unwrap();
            bomb(&mut fields, &mut Random::new(3, 1));
            let bytes = wire::encode(&fields);
            assert!(bytes.len() > base.len() && bytes.len() < 500_000, "{}", bytes.len());
        }
    }
}
