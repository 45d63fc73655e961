//! Tree + data → text. Go's rules (text/template, exec.go).

use serde_json::Value;

use super::Error;
use super::functions::{self, Functions};
use super::parse::{Base, Node, Operand, Pipeline, Tree};
use super::value::{Term, is_true, print, type_name};

/// Nesting of `{{template}}` calls: one that calls itself for ever ends here.
const MAX_CALLS: usize = 100;

/// Fields of Docker's structures that are maps, whose keys are the user's: one that is not there is no mistake.
const MAPS: [&str; 14] = [
    "Annotations",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Metadata",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// A value, and whether a missing key of it is "no value" and not an error.
#[derive(Clone)]
struct Place {
    value: Term,
    is_map: bool,
}

impl Place {
    fn new(value: Term) -> Place {
        Place { value, is_map: false }
    }
}

enum Flow {
    On,
    Break,
    Continue,
}

pub(super) struct Run<'a> {
    pub(super) text: &'a str,
    pub(super) tree: &'a Tree,
    pub(super) functions: &'a Functions<'a>,
    pub(super) out: String,
}

/// One template's execution: its variables, `$` first, and the depth of calls.
struct Frame {
    variables: Vec<(String, Place)>,
    calls: usize,
}

impl<'a> Run<'a> {
    pub(super) fn run(&mut self, data: &Value) -> Result<(), Error> {
        let tree = self.tree;
        self.call(&tree.nodes, Place::new(Some(data.clone())), 0)
    }

    fn call(&mut self, nodes: &'a [Node], dot: Place, calls: usize) -> Result<(), Error> {
        let mut frame = Frame {
            variables: vec![(String::new(), dot.clone())],
            calls,
        };
        self.walk(nodes, &dot, &mut frame).map(drop)
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::execute(self.text, at, message)
    }

    fn walk(&mut self, nodes: &'a [Node], dot: &Place, frame: &mut Frame) -> Result<Flow, Error> {
        let scope = frame.variables.len();
        for node in nodes {
            let flow = self.node(node, dot, frame)?;
            if !matches!(flow, Flow::On) {
                frame.variables.truncate(scope);
                return Ok(flow);
            }
        }
        frame.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Place, frame: &mut Frame) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot, frame)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&print(&value.value));
                }
            }
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let scope = frame.variables.len();
                let condition = self.pipeline(condition, dot, frame)?;
                let flow = self.walk(
                    if is_true(&condition.value) {
                        then
                    } else {
                        otherwise
                    },
                    dot,
                    frame,
                );
                frame.variables.truncate(scope);
                return flow;
            }
            Node::With {
                value,
                then,
                otherwise,
            } => {
                let scope = frame.variables.len();
                let value = self.pipeline(value, dot, frame)?;
                let flow = match is_true(&value.value) {
                    true => self.walk(then, &value, frame),
                    false => self.walk(otherwise, dot, frame),
                };
                frame.variables.truncate(scope);
                return flow;
            }
            Node::Range {
                over,
                body,
                otherwise,
            } => return self.range(over, body, otherwise, dot, frame),
            Node::Template { at, name, value } => {
                let tree = self.tree;
                let nodes = tree
                    .defined
                    .get(name)
                    .ok_or_else(|| self.error(*at, format!("template {name:?} not defined")))?;
                if frame.calls >= MAX_CALLS {
                    return Err(self.error(*at, "exceeded maximum template depth"));
                }
                let dot = match value {
                    Some(value) => self.pipeline(value, dot, frame)?,
                    None => Place::new(None),
                };
                self.call(nodes, dot, frame.calls + 1)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        over: &'a Pipeline,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: &Place,
        frame: &mut Frame,
    ) -> Result<Flow, Error> {
        let scope = frame.variables.len();
        let value = self.evaluate(over, dot, frame)?;
        let items = self.items(over.at, value.value)?;
        if items.is_empty() {
            return self.walk(otherwise, dot, frame);
        }
        for (key, item) in items {
            let item = Place::new(Some(item));
            let key = Place::new(Some(key));
            let values = match over.variables.len() {
                2 => vec![key, item.clone()],
                _ => vec![item.clone()],
            };
            for (name, value) in over.variables.iter().zip(values) {
                self.bind(over, name, value, frame)?;
            }
            let flow = self.walk(body, &item, frame)?;
            frame.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// What `range` goes over: (index or key, element).
    fn items(&self, at: usize, value: Term) -> Result<Vec<(Value, Value)>, Error> {
        Ok(match value {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| (i.into(), item))
                .collect(),
            Some(Value::Object(fields)) => {
                let mut fields: Vec<_> = fields.into_iter().collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                fields.into_iter().map(|(key, item)| (key.into(), item)).collect()
            }
            Some(Value::Number(count)) if count.is_i64() || count.is_u64() => {
                let count = count.as_u64().unwrap_or(0);
                if count > 1 << 20 {
                    return Err(self.error(at, "range over too large a number"));
                }
                (0..count).map(|i| (i.into(), i.into())).collect()
            }
            other => return Err(self.error(at, format!("range can't iterate over {}", print(&other)))),
        })
    }

    fn bind(&self, pipeline: &Pipeline, name: &str, value: Place, frame: &mut Frame) -> Result<(), Error> {
        if !pipeline.assigns {
            frame.variables.push((name.to_owned(), value));
            return Ok(());
        }
        match frame.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, variable)) => *variable = value,
            None => return Err(self.error(pipeline.at, format!("undefined variable \"${name}\""))),
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Place, frame: &mut Frame) -> Result<Place, Error> {
        let value = self.evaluate(pipeline, dot, frame)?;
        if let Some(name) = pipeline.variables.first() {
            self.bind(pipeline, name, value.clone(), frame)?;
        }
        Ok(value)
    }

    fn evaluate(&mut self, pipeline: &Pipeline, dot: &Place, frame: &mut Frame) -> Result<Place, Error> {
        let mut result: Option<Place> = None;
        for command in &pipeline.commands {
            result = Some(self.command(command, result, dot, frame)?);
        }
        Ok(result.unwrap_or_else(|| Place::new(None)))
    }

    /// A command with its arguments; `last` is the result of the command before it.
    fn command(
        &mut self,
        command: &[Operand],
        last: Option<Place>,
        dot: &Place,
        frame: &mut Frame,
    ) -> Result<Place, Error> {
        let Some((first, rest)) = command.split_first() else {
            return Ok(Place::new(None));
        };
        if let Base::Function(name) = &first.base {
            if matches!(name.as_str(), "and" | "or") {
                return self.short_circuit(name == "or", first.at, rest, last, dot, frame);
            }
            let arguments = self.arguments(rest, last, dot, frame)?;
            let result = functions::call(self.functions, name, &arguments);
            return result
                .map(Place::new)
                .map_err(|message| self.error(first.at, format!("error calling {name}: {message}")));
        }
        if rest.is_empty() && last.is_none() {
            return self.operand(first, dot, frame);
        }
        // Only a method takes arguments: Docker's contexts have `.Label "name"`.
        let (method, receiver) = match first.fields.split_last() {
            Some((method, receiver)) => (method, receiver),
            None => return Err(self.error(first.at, "can't give argument to non-function")),
        };
        let target = self.base(first, dot, frame)?;
        self.fields(first.at, target, receiver)?;
        let arguments = self.arguments(rest, last, dot, frame)?;
        match (self.functions.method)(method, &arguments) {
            Some(value) => Ok(Place::new(Some(value))),
            None => Err(self.error(
                first.at,
                format!("{method} has arguments but cannot be invoked as function"),
            )),
        }
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        last: Option<Place>,
        dot: &Place,
        frame: &mut Frame,
    ) -> Result<Vec<Term>, Error> {
        let mut values = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            values.push(self.operand(operand, dot, frame)?.value);
        }
        values.extend(last.map(|place| place.value));
        Ok(values)
    }

    /// `and`, `or`: the first argument that decides; those after it are not evaluated.
    fn short_circuit(
        &mut self,
        stops_at: bool,
        at: usize,
        operands: &[Operand],
        last: Option<Place>,
        dot: &Place,
        frame: &mut Frame,
    ) -> Result<Place, Error> {
        let mut value = None;
        for operand in operands {
            let place = self.operand(operand, dot, frame)?;
            if is_true(&place.value) == stops_at {
                return Ok(place);
            }
            value = Some(place);
        }
        last.or(value)
            .ok_or_else(|| self.error(at, "wrong number of args for and/or: want at least 1 got 0"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Place, frame: &mut Frame) -> Result<Place, Error> {
        let base = self.base(operand, dot, frame)?;
        self.fields(operand.at, base, &operand.fields)
    }

    fn base(&mut self, operand: &Operand, dot: &Place, frame: &mut Frame) -> Result<Place, Error> {
        match &operand.base {
            Base::Dot => Ok(dot.clone()),
            Base::Nil => Ok(Place::new(Some(Value::Null))),
            Base::Literal(value) => Ok(Place::new(Some(value.clone()))),
            Base::Pipeline(inner) => self.evaluate(inner, dot, frame),
            Base::Variable(name) => {
                let found = frame.variables.iter().rev().find(|(known, _)| known == name);
                found
                    .map(|(_, place)| place.clone())
                    .ok_or_else(|| self.error(operand.at, format!("undefined variable \"${name}\"")))
            }
            Base::Function(_) => self.command(std::slice::from_ref(operand), None, dot, frame),
        }
    }

    fn fields(&self, at: usize, mut place: Place, fields: &[String]) -> Result<Place, Error> {
        for field in fields {
            place = match place.value {
                Some(Value::Object(mut object)) => match object.remove(field) {
                    Some(value) => Place {
                        value: Some(value),
                        is_map: MAPS.contains(&field.as_str()),
                    },
                    None if place.is_map => Place::new(None),
                    None => return Err(self.error(at, format!("map has no entry for key {field:?}"))),
                },
                None | Some(Value::Null) => {
                    return Err(self.error(at, format!("nil pointer evaluating interface {{}}.{field}")));
                }
                other => {
                    let kind = type_name(&other);
                    return Err(self.error(at, format!("can't evaluate field {field} in type {kind}")));
                }
            };
        }
        Ok(place)
    }
}
