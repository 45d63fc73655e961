//! Tokens → tree, by the grammar of Go's `text/template` (its package documentation, "Actions", "Pipelines").

use std::collections::HashMap;

use serde_json::Value;

use super::Error;
use super::lex::{Kind, Token, tokens};

/// Nesting that is accepted; each level costs the stack of this process.
const MAX_DEPTH: usize = 100;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template {
        at: usize,
        name: String,
        value: Option<Pipeline>,
    },
    Break,
    Continue,
}

/// `$x := a | b`: commands, each result the last argument of the next.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    /// `=` to a variable that exists, not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Nil,
    Literal(Value),
    Pipeline(Box<Pipeline>),
}

/// A parsed text: its own nodes and the templates it defines.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) defined: HashMap<String, Vec<Node>>,
}

pub(super) fn parse(text: &str, is_function: &dyn Fn(&str) -> bool) -> Result<Tree, Error> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        text,
        tokens: tokens.into_iter().peekable(),
        is_function,
        at: 0,
        depth: 0,
        defined: HashMap::new(),
    };
    let (nodes, end) = parser.nodes(Within::Top)?;
    match end {
        End::Text => Ok(Tree {
            nodes,
            defined: parser.defined,
        }),
        End::Closed => Err(parser.error("unexpected {{end}}")),
        End::Else(_) => Err(parser.error("unexpected {{else}}")),
    }
}

/// What ended a list of nodes.
enum End {
    Text,
    Closed,
    /// The word after `else`, if any: `if` or `with`.
    Else(Option<String>),
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Top,
    Block,
    Loop,
}

struct Parser<'a> {
    text: &'a str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    is_function: &'a dyn Fn(&str) -> bool,
    at: usize,
    depth: usize,
    defined: HashMap<String, Vec<Node>>,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> Error {
        Error::parse(self.text, self.at, message)
    }

    fn next(&mut self) -> Option<Kind> {
        let token = self.tokens.next()?;
        self.at = token.at;
        Some(token.kind)
    }

    fn next_past_space(&mut self) -> Option<Kind> {
        self.skip_space();
        self.next()
    }

    fn skip_space(&mut self) {
        while self.tokens.next_if(|token| token.kind == Kind::Space).is_some() {}
    }

    fn peek(&mut self) -> Option<&Kind> {
        self.tokens.peek().map(|token| &token.kind)
    }

    fn take(&mut self, wanted: &Kind) -> bool {
        self.tokens.next_if(|token| token.kind == *wanted).is_some()
    }

    fn deeper<T>(&mut self, then: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let result = then(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self, within: Within) -> Result<(Vec<Node>, End), Error> {
        let mut nodes = Vec::new();
        loop {
            match self.next() {
                None => return Ok((nodes, End::Text)),
                Some(Kind::Text(text)) => nodes.push(Node::Text(text)),
                Some(_) => {
                    self.skip_space();
                    let keyword = match self.peek() {
                        Some(Kind::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    if let Some(end) = self.ending(&keyword)? {
                        return Ok((nodes, end));
                    }
                    nodes.extend(self.action(&keyword, within)?);
                }
            }
        }
    }

    fn ending(&mut self, keyword: &str) -> Result<Option<End>, Error> {
        match keyword {
            "end" => {
                self.next();
                self.close("end")?;
                Ok(Some(End::Closed))
            }
            "else" => {
                self.next();
                self.skip_space();
                match self.peek() {
                    Some(Kind::Word(word)) if word == "if" || word == "with" => {
                        let word = word.clone();
                        self.next();
                        Ok(Some(End::Else(Some(word))))
                    }
                    _ => {
                        self.close("else")?;
                        Ok(Some(End::Else(None)))
                    }
                }
            }
            _ => Ok(None),
        }
    }

    fn close(&mut self, context: &str) -> Result<(), Error> {
        match self.next_past_space() {
            Some(Kind::Close) => Ok(()),
            _ => Err(self.error(format!("unexpected argument in {context}"))),
        }
    }

    /// An action that is none of the endings; `define` leaves no node.
    fn action(&mut self, keyword: &str, within: Within) -> Result<Option<Node>, Error> {
        let is_keyword = matches!(
            keyword,
            "if" | "with" | "range" | "define" | "block" | "template" | "break" | "continue"
        );
        if is_keyword {
            self.next();
        }
        let node = match keyword {
            "if" | "with" => self.deeper(|parser| parser.conditional(keyword, within))?,
            "range" => {
                let over = self.pipeline("range", 2)?;
                let (body, otherwise) = self.deeper(|parser| parser.branches(within, Within::Loop))?;
                Node::Range {
                    over,
                    body,
                    otherwise,
                }
            }
            "define" | "block" => return self.definition(keyword),
            "template" => {
                let at = self.at;
                let name = self.name(keyword)?;
                self.skip_space();
                let value = if self.take(&Kind::Close) {
                    None
                } else {
                    Some(self.pipeline("template clause", 0)?)
                };
                Node::Template { at, name, value }
            }
            "break" | "continue" => {
                if within != Within::Loop {
                    return Err(self.error(format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                }
                self.close(keyword)?;
                if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                }
            }
            _ => Node::Action(self.pipeline("command", 1)?),
        };
        Ok(Some(node))
    }

    fn conditional(&mut self, keyword: &str, within: Within) -> Result<Node, Error> {
        let condition = self.pipeline(keyword, 1)?;
        let inner = if within == Within::Top {
            Within::Block
        } else {
            within
        };
        let (then, otherwise) = self.branches(within, inner)?;
        Ok(if keyword == "if" {
            Node::If {
                condition,
                then,
                otherwise,
            }
        } else {
            Node::With {
                value: condition,
                then,
                otherwise,
            }
        })
    }

    /// The nodes up to `else` and those from there to `end`.
    fn branches(&mut self, outside: Within, inside: Within) -> Result<(Vec<Node>, Vec<Node>), Error> {
        let outside = if outside == Within::Top {
            Within::Block
        } else {
            outside
        };
        let (body, end) = self.nodes(inside)?;
        let otherwise = match end {
            End::Closed => Vec::new(),
            End::Text => return Err(self.error("unexpected EOF")),
            // `else if` shares the `end` of its `if`.
            End::Else(Some(keyword)) => vec![self.deeper(|parser| parser.conditional(&keyword, outside))?],
            End::Else(None) => match self.nodes(outside)? {
                (nodes, End::Closed) => nodes,
                (_, End::Text) => return Err(self.error("unexpected EOF")),
                (_, End::Else(_)) => return Err(self.error("expected end; found {{else}}")),
            },
        };
        Ok((body, otherwise))
    }

    fn name(&mut self, context: &str) -> Result<String, Error> {
        match self.next_past_space() {
            Some(Kind::Str(name)) => Ok(name),
            _ => Err(self.error(format!(
                "unexpected token in {context} clause, expected a quoted name"
            ))),
        }
    }

    fn definition(&mut self, keyword: &str) -> Result<Option<Node>, Error> {
        let at = self.at;
        let name = self.name(keyword)?;
        let value = match keyword {
            "block" => Some(self.pipeline("block clause", 0)?),
            _ => {
                self.close("define clause")?;
                None
            }
        };
        let (nodes, end) = self.deeper(|parser| parser.nodes(Within::Block))?;
        if !matches!(end, End::Closed) {
            return Err(self.error(format!("unexpected {{{{else}}}} or EOF in {keyword} clause")));
        }
        self.defined.insert(name.clone(), nodes);
        Ok(value.map(|value| Node::Template {
            at,
            name,
            value: Some(value),
        }))
    }

    /// A pipeline up to and with its `}}`, with at most `declarations` variables before `:=`.
    fn pipeline(&mut self, context: &str, declarations: usize) -> Result<Pipeline, Error> {
        let pipeline = self.deeper(|parser| parser.commands(context, declarations))?;
        match self.next() {
            Some(Kind::Close) => Ok(pipeline),
            Some(Kind::CloseParen) => Err(self.error("unexpected right paren")),
            _ => Err(self.error("unclosed action")),
        }
    }

    fn commands(&mut self, context: &str, declarations: usize) -> Result<Pipeline, Error> {
        self.skip_space();
        let at = self.tokens.peek().map_or(self.at, |token| token.at);
        let (variables, assigns) = self.declaration(declarations)?;
        let mut commands = vec![];
        loop {
            let command = self.command()?;
            if command.is_empty() {
                return Err(self.error(match commands.is_empty() {
                    true => format!("missing value for {context}"),
                    false => "missing value for command".into(),
                }));
            }
            // Only something callable can take the result of the command before it.
            let is_callable = command.first().is_some_and(|first| match &first.base {
                Base::Literal(_) | Base::Nil => false,
                Base::Dot => !first.fields.is_empty(),
                _ => true,
            });
            if !commands.is_empty() && !is_callable {
                return Err(self.error(format!(
                    "non executable command in pipeline stage {}",
                    commands.len() + 1
                )));
            }
            commands.push(command);
            if !self.take(&Kind::Pipe) {
                return Ok(Pipeline {
                    at,
                    variables,
                    assigns,
                    commands,
                });
            }
        }
    }

    /// `$x :=`, `$i, $x :=` or `$x =`, if the pipeline begins so.
    fn declaration(&mut self, most: usize) -> Result<(Vec<String>, bool), Error> {
        // Looking ahead needs more than one token: work on a copy and keep it only if it was a declaration.
        let mut ahead = self
            .tokens
            .clone()
            .filter(|token| token.kind != Kind::Space)
            .map(|token| token.kind);
        let mut variables = Vec::new();
        loop {
            let Some(Kind::Variable(name)) = ahead.next() else {
                return Ok((Vec::new(), false));
            };
            variables.push(name);
            let assigns = match ahead.next() {
                Some(Kind::Comma) if variables.len() < most => continue,
                Some(Kind::Comma) => return Err(self.error("too many declarations")),
                Some(Kind::Declare) => false,
                Some(Kind::Assign) => true,
                _ => return Ok((Vec::new(), false)),
            };
            if most == 0 {
                return Err(self.error("unexpected declaration"));
            }
            while let Some(kind) = self.next() {
                if matches!(kind, Kind::Declare | Kind::Assign) {
                    break;
                }
            }
            return Ok((variables, assigns));
        }
    }

    /// Operands up to a pipe, a closing parenthesis or the action's end, which stay.
    fn command(&mut self) -> Result<Vec<Operand>, Error> {
        let mut operands: Vec<Operand> = Vec::new();
        let mut spaced = true;
        loop {
            match self.peek() {
                Some(Kind::Space) => {
                    self.skip_space();
                    spaced = true;
                }
                None | Some(Kind::Pipe | Kind::Close | Kind::CloseParen) => return Ok(operands),
                Some(_) if !spaced => return Err(self.error("unexpected token in operand")),
                Some(_) => {
                    operands.push(self.operand()?);
                    spaced = false;
                }
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        let kind = self.next();
        let at = self.at;
        let mut fields = Vec::new();
        let base = match kind {
            Some(Kind::Dot) => Base::Dot,
            Some(Kind::Field(name)) => {
                fields.push(name);
                Base::Dot
            }
            Some(Kind::Variable(name)) => Base::Variable(name),
            Some(Kind::Str(text)) => Base::Literal(text.into()),
            Some(Kind::Int(number)) => Base::Literal(number.into()),
            Some(Kind::Float(number)) => Base::Literal(number.into()),
            Some(Kind::Word(word)) => match word.as_str() {
                "true" | "false" => Base::Literal((word == "true").into()),
                "nil" => Base::Nil,
                _ if (self.is_function)(&word) => Base::Function(word),
                _ => return Err(self.error(format!("function \"{word}\" not defined"))),
            },
            Some(Kind::Paren) => {
                let inner = self.deeper(|parser| parser.commands("parenthesized pipeline", 0))?;
                if !self.take(&Kind::CloseParen) {
                    return Err(self.error("unclosed left paren"));
                }
                Base::Pipeline(Box::new(inner))
            }
            _ => return Err(self.error("unexpected token in operand")),
        };
        while let Some(Kind::Field(name)) = self.peek() {
            fields.push(name.clone());
            self.next();
        }
        if !fields.is_empty() && matches!(base, Base::Literal(_) | Base::Nil | Base::Function(_)) {
            return Err(self.error("unexpected . after a constant or function"));
        }
        Ok(Operand { at, base, fields })
    }
}
