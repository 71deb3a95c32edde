//! Text to graph.

use std::collections::HashMap;
use std::sync::Arc;

use landfall_tensor::{DType, Shape, Tensor};

use super::INDEXED_TEXT_BYTES_MAX;
use super::lexer::{Lexer, Token};
use crate::attribute::{Attribute, Attributes};
use crate::{Dim, Graph, Op, Origin, ValueId};

/// Sub-graphs nested deeper than this are refused.
const MAX_DEPTH: usize = 32;

/// Text that is not a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line number from 1.
    pub line: usize,
    /// What was expected and found.
    pub message: String,
}

impl ParseError {
    pub(super) fn new(line: usize, message: impl Into<String>) -> ParseError {
        ParseError { line, message: message.into() }
    }
}

/// Parses one graph; `constants` are the tensors that `@index` refers to. See [`crate::text`].
pub fn parse(text: &str, constants: &[Tensor]) -> Result<Graph, ParseError> {
    let mut lexer = Lexer::new(text);
    let token = lexer.next()?;
    let mut parser = Parser { lexer, token, constants, depth: 0 };
    let graph = parser.graph()?;
    match parser.token {
        Token::End => Ok(graph),
        _ => Err(parser.expected("the end of the text")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    constants: &'a [Tensor],
    depth: usize,
}

type Type = (Option<DType>, Option<Vec<Dim>>);

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.lexer.line(), message)
    }

    fn expected(&self, what: &str) -> ParseError {
        self.error(format!("expected {what}, found {:?}", self.token))
    }

    fn advance(&mut self) -> Result<Token, ParseError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn accept(&mut self, mark: char) -> Result<bool, ParseError> {
        let found = self.token == Token::Mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn mark(&mut self, mark: char) -> Result<(), ParseError> {
        if self.accept(mark)? { Ok(()) } else { Err(self.expected(&format!("'{mark}'"))) }
    }

    fn word(&mut self, what: &str) -> Result<String, ParseError> {
        match self.advance()? {
            Token::Word(word) => Ok(word),
            other => Err(self.error(format!("expected {what}, found {other:?}"))),
        }
    }

    fn value_name(&mut self) -> Result<String, ParseError> {
        match self.advance()? {
            Token::Value(name) => Ok(name),
            other => Err(self.error(format!("expected a value such as %x, found {other:?}"))),
        }
    }

    fn graph(&mut self) -> Result<Graph, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("graphs are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        if self.word("'graph'")? != "graph" {
            return Err(self.error("expected 'graph'"));
        }
        let name = match self.advance()? {
            Token::Text(name) => name,
            other => return Err(self.error(format!("expected a graph's name, found {other:?}"))),
        };
        self.mark('{')?;
        let mut body = Body { graph: Graph::new(name), values: HashMap::new() };
        while !self.accept('}')? {
            self.statement(&mut body)?;
        }
        self.depth -= 1;
        if let Some((name, _)) = body
            .values
            .iter()
            .find(|(_, id)| matches!(body.graph.value(**id).origin, Origin::Detached))
        {
            return Err(self.error(format!("%{name} is used but not defined")));
        }
        Ok(body.graph)
    }

    fn statement(&mut self, body: &mut Body) -> Result<(), ParseError> {
        match &self.token {
            Token::Word(word) if word == "input" => {
                self.advance()?;
                let name = self.value_name()?;
                let (dtype, dims) = self.optional_type()?;
                let id = body.graph.add_input(own_name(&name), dtype, dims);
                self.bind(body, name, id)
            }
            Token::Word(word) if word == "const" => {
                self.advance()?;
                let name = self.value_name()?;
                self.mark(':')?;
                let tensor = self.tensor()?;
                let id = body.graph.add_constant(own_name(&name), tensor);
                self.bind(body, name, id)
            }
            Token::Word(word) if word == "output" => {
                self.advance()?;
                let name = self.value_name()?;
                let id = body.reference(&name);
                body.graph.outputs.push(id);
                Ok(())
            }
            Token::Value(_) => self.node(body),
            _ => Err(self.expected("input, const, output, a value or '}'")),
        }
    }

    fn bind(&self, body: &mut Body, name: String, id: ValueId) -> Result<(), ParseError> {
        match body.values.insert(name.clone(), id) {
            None => Ok(()),
            Some(_) => Err(self.error(format!("%{name} is defined twice or used before"))),
        }
    }

    fn node(&mut self, body: &mut Body) -> Result<(), ParseError> {
        let mut outputs = Vec::new();
        loop {
            let name = self.value_name()?;
            let (dtype, dims) = self.optional_type()?;
            let id = body.reference(&name);
            if !matches!(body.graph.value(id).origin, Origin::Detached) || outputs.contains(&id) {
                return Err(self.error(format!("%{name} is defined twice")));
            }
            let value = body.graph.value_mut(id);
            (value.dtype, value.dims) = (dtype, dims);
            outputs.push(id);
            if !self.accept(',')? {
                break;
            }
        }
        self.mark('=')?;
        let full = self.word("an operator")?;
        let (domain, name) = full.rsplit_once('.').unwrap_or(("ai.onnx", &full));
        self.mark('(')?;
        let mut inputs = Vec::new();
        while !self.accept(')')? {
            match self.advance()? {
                Token::Value(name) => inputs.push(Some(body.reference(&name))),
                Token::Word(word) if word == "_" => inputs.push(None),
                other => return Err(self.error(format!("expected an operand, found {other:?}"))),
            }
            if self.token != Token::Mark(')') {
                self.mark(',')?;
            }
        }
        let attributes = self.attributes()?;
        let op = Op::new(domain, name, attributes)
            .map_err(|err| self.error(format!("{full}: {err}")))?;
        let mut node_name = String::new();
        if let Token::Text(text) = &self.token {
            node_name.clone_from(text);
            self.advance()?;
        }
        body.graph.add_node(node_name, op, inputs, outputs);
        Ok(())
    }

    fn attributes(&mut self) -> Result<Attributes, ParseError> {
        let mut attributes = Attributes::new();
        if !self.accept('{')? {
            return Ok(attributes);
        }
        while !self.accept('}')? {
            let name = self.word("an attribute's name")?;
            self.mark('=')?;
            let value = self.attribute()?;
            if attributes.insert(name.clone(), value).is_some() {
                return Err(self.error(format!("attribute '{name}' is given twice")));
            }
            if self.token != Token::Mark('}') {
                self.mark(',')?;
            }
        }
        Ok(attributes)
    }

    fn attribute(&mut self) -> Result<Attribute, ParseError> {
        match &self.token {
            Token::Text(text) => {
                let value = Attribute::Text(text.clone());
                self.advance()?;
                Ok(value)
            }
            Token::Mark('[') => self.list_attribute(),
            Token::Word(word) if word == "graph" => Ok(Attribute::Graph(Box::new(self.graph()?))),
            Token::Word(word) if word != "inf" && word != "NaN" => {
                Ok(Attribute::Tensor(self.tensor()?))
            }
            _ => match self.scalar()?.as_str() {
                text if is_integer(text) => self.number(text).map(Attribute::Int),
                text => self.number(text).map(Attribute::Float),
            },
        }
    }

    fn list_attribute(&mut self) -> Result<Attribute, ParseError> {
        self.mark('[')?;
        if self.token == Token::Mark('@') {
            return self.list_in_table();
        }
        let items = self.items()?;
        let texts: Vec<Arc<str>> = items
            .iter()
            .filter_map(|item| match item {
                Token::Text(text) => Some(text.as_str().into()),
                _ => None,
            })
            .collect();
        if !texts.is_empty() && texts.len() == items.len() {
            if self.accept('[')? {
                return self.indexed_texts(&texts);
            }
            return Ok(Attribute::Texts(texts));
        }
        let numbers: Vec<&str> = items
            .iter()
            .map(|item| match item {
                Token::Number(text) | Token::Word(text) => Ok(text.as_str()),
                other => Err(self.error(format!("expected a number, found {other:?}"))),
            })
            .collect::<Result<_, _>>()?;
        if numbers.iter().all(|text| is_integer(text)) {
            let ints = numbers.iter().map(|text| self.number(text)).collect::<Result<_, _>>();
            return ints.map(Attribute::Ints);
        }
        let floats = numbers.iter().map(|text| self.number(text)).collect::<Result<_, _>>();
        floats.map(Attribute::Floats)
    }

    /// `@n]`: the list is a tensor of the table.
    fn list_in_table(&mut self) -> Result<Attribute, ParseError> {
        let tensor = self.table_entry()?.aligned();
        self.mark(']')?;
        let list = match tensor.dtype() {
            DType::I64 => tensor.as_slice().map(|list| Attribute::Ints(list.to_vec())),
            DType::F32 => tensor.as_slice().map(|list| Attribute::Floats(list.to_vec())),
            other => return Err(self.error(format!("a list of {other} is no attribute"))),
        };
        list.map_err(|err| self.error(err.to_string()))
    }

    /// `@n]`: the texts at the indices in a tensor of the table.
    fn indexed_texts(&mut self, texts: &[Arc<str>]) -> Result<Attribute, ParseError> {
        if texts.iter().any(|text| text.len() > INDEXED_TEXT_BYTES_MAX) {
            return Err(self.error(format!("over {INDEXED_TEXT_BYTES_MAX} bytes of indexed text")));
        }
        let tensor = self.table_entry()?;
        self.mark(']')?;
        let indices = tensor.as_slice::<u8>().map_err(|err| self.error(err.to_string()))?;
        let text = |&index: &u8| texts.get(usize::from(index)).cloned();
        let list: Option<Vec<_>> = indices.iter().map(text).collect();
        list.map(Attribute::Texts)
            .ok_or_else(|| self.error(format!("an index is not below {}", texts.len())))
    }

    /// `@n`: tensor `n` of the table.
    fn table_entry(&mut self) -> Result<Tensor, ParseError> {
        self.mark('@')?;
        let index: usize = match self.advance()? {
            Token::Number(text) => self.number(&text)?,
            other => return Err(self.error(format!("expected an index, found {other:?}"))),
        };
        let entry = self.constants.get(index).cloned();
        entry.ok_or_else(|| self.error(format!("there is no constant @{index}")))
    }

    fn scalar(&mut self) -> Result<String, ParseError> {
        match self.advance()? {
            Token::Number(text) | Token::Word(text) => Ok(text),
            other => Err(self.error(format!("expected a value, found {other:?}"))),
        }
    }

    /// What stands behind `[`, up to and with `]`.
    fn items(&mut self) -> Result<Vec<Token>, ParseError> {
        let mut items = Vec::new();
        while !self.accept(']')? {
            items.push(self.advance()?);
            if self.token != Token::Mark(']') {
                self.mark(',')?;
            }
        }
        Ok(items)
    }

    fn number<T: std::str::FromStr>(&self, text: &str) -> Result<T, ParseError> {
        text.parse().map_err(|_| self.error(format!("'{text}' is not a number of that kind")))
    }

    fn optional_type(&mut self) -> Result<Type, ParseError> {
        if self.accept(':')? { self.value_type() } else { Ok((None, None)) }
    }

    fn value_type(&mut self) -> Result<Type, ParseError> {
        let dtype = if self.accept('?')? {
            None
        } else {
            let name = self.word("a datatype")?;
            let dtype = DType::from_name(&name);
            Some(dtype.ok_or_else(|| self.error(format!("'{name}' is not a datatype")))?)
        };
        self.mark('[')?;
        if self.accept('*')? {
            self.mark(']')?;
            return Ok((dtype, None));
        }
        let mut dims = Vec::new();
        while !self.accept(']')? {
            dims.push(match self.advance()? {
                Token::Number(text) => Dim::Known(self.number(&text)?),
                Token::Word(name) | Token::Text(name) => Dim::Symbol(Arc::from(name)),
                Token::Mark('?') => Dim::Unknown,
                other => return Err(self.error(format!("expected an extent, found {other:?}"))),
            });
            if self.token != Token::Mark(']') {
                self.mark(',')?;
            }
        }
        Ok((dtype, Some(dims)))
    }

    fn tensor(&mut self) -> Result<Tensor, ParseError> {
        let (dtype, dims) = self.value_type()?;
        let extents = dims.and_then(|dims| dims.iter().map(Dim::known).collect::<Option<Vec<_>>>());
        let (Some(dtype), Some(extents)) = (dtype, extents) else {
            return Err(self.error("a constant needs a datatype and known extents"));
        };
        let shape = Shape::from(extents);
        self.mark('=')?;
        if self.token == Token::Mark('@') {
            let tensor = self.table_entry()?;
            if tensor.dtype() == dtype && *tensor.shape() == shape {
                return Ok(tensor);
            }
            let (found, extents) = (tensor.dtype(), tensor.shape());
            let message = format!("the constant is {found}{extents}, the text says {dtype}{shape}");
            return Err(self.error(message));
        }
        self.mark('[')?;
        let items = self.items()?;
        self.inline_tensor(dtype, shape, &items)
    }

    fn inline_tensor(
        &self,
        dtype: DType,
        shape: Shape,
        items: &[Token],
    ) -> Result<Tensor, ParseError> {
        macro_rules! numbers {
            ($ty:ty) => {{
                let parsed = items.iter().map(|item| match item {
                    Token::Number(text) | Token::Word(text) => self.number::<$ty>(text),
                    other => Err(self.error(format!("expected a number, found {other:?}"))),
                });
                Tensor::from_slice(shape, &parsed.collect::<Result<Vec<$ty>, _>>()?)
            }};
        }
        let tensor = match dtype {
            DType::F32 => numbers!(f32),
            DType::F64 => numbers!(f64),
            DType::I64 => numbers!(i64),
            DType::I32 => numbers!(i32),
            DType::I8 => numbers!(i8),
            DType::U8 => numbers!(u8),
            DType::Bool => numbers!(u8).and_then(|tensor| {
                let bytes = tensor.as_slice::<u8>()?;
                Tensor::from_bools(
                    tensor.shape().clone(),
                    &bytes.iter().map(|&byte| byte != 0).collect::<Vec<_>>(),
                )
            }),
            DType::String => {
                let texts = items.iter().map(|item| match item {
                    Token::Text(text) => Ok(text.clone()),
                    other => Err(self.error(format!("expected text, found {other:?}"))),
                });
                Tensor::from_strings(shape, texts.collect::<Result<_, _>>()?)
            }
            _ => return Err(self.error(format!("{dtype} constants cannot stand inline"))),
        };
        tensor.map_err(|err| self.error(err.to_string()))
    }
}

struct Body {
    graph: Graph,
    values: HashMap<String, ValueId>,
}

impl Body {
    fn reference(&mut self, name: &str) -> ValueId {
        let graph = &mut self.graph;
        *self.values.entry(name.to_owned()).or_insert_with(|| graph.add_detached(own_name(name)))
    }
}

fn own_name(name: &str) -> &str {
    if name.starts_with('#') { "" } else { name }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}
