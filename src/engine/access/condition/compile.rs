//! From the text of a condition to its checked form.

use std::panic::catch_unwind;

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::parser::Parser;

use super::super::automaton;
use super::node::{Arithmetic, Fold, Function, Member, Node, Order, Origin, Reads, Root, Type};
use super::{ConditionError, Phase};

/// Bytes of an expression at most.
const LONGEST: usize = 4096;
/// Nesting at most, as written.
const DEEPEST: u16 = 48;
/// Nesting of the checked form at most; chains of operators nest too.
const DEEPEST_NODE: usize = 100;
/// Parts at most.
const MOST_NODES: usize = 1000;

pub(super) fn compile(expression: &str, phase: Phase) -> Result<(Node, Reads), ConditionError> {
    if expression.len() > LONGEST {
        return Err(ConditionError::TooLong);
    }
    // The parser is generated code: should it panic, then at load and as an error of this expression.
    let parsed = catch_unwind(|| Parser::new().max_recursion_depth(DEEPEST).parse(expression));
    let parsed = parsed.map_err(|_| ConditionError::TooComplex)?.map_err(|errors| {
        let first = errors.errors.first();
        let place = |at: Option<isize>| at.and_then(|at| usize::try_from(at).ok()).unwrap_or(1);
        ConditionError::Syntax {
            line: place(first.map(|error| error.pos.0)),
            column: place(first.map(|error| error.pos.1)),
            message: first.map(|error| error.msg.lines().next().unwrap_or_default().to_owned()).unwrap_or_default(),
        }
    })?;
    let mut lower = Lower { phase, reads: Reads::default(), nodes: 0, depth: 0, locals: Vec::new() };
    let root = lower.expression(&parsed.expr)?;
    root.demand(Type::Bool, "the condition")?;
    Ok((root.node, lower.reads))
}

/// A checked part with what is known of it.
struct Typed {
    node: Node,
    kind: Type,
    origin: Origin,
}

impl Typed {
    fn new(node: Node, kind: Type) -> Self {
        Self { node, kind, origin: Origin::Elsewhere }
    }

    fn from(node: Node, kind: Type, origin: Origin) -> Self {
        Self { node, kind, origin }
    }

    fn demand(&self, kind: Type, what: &str) -> Result<(), ConditionError> {
        if self.kind.is(kind) {
            return Ok(());
        }
        Err(ConditionError::Type(format!("{what} must be {}, not {}", kind.as_str(), self.kind.as_str())))
    }
}

struct Lower {
    phase: Phase,
    reads: Reads,
    nodes: usize,
    depth: usize,
    locals: Vec<(String, Type, Origin)>,
}

impl Lower {
    fn expression(&mut self, expr: &Expr) -> Result<Typed, ConditionError> {
        self.nodes += 1;
        self.depth += 1;
        if self.nodes > MOST_NODES || self.depth > DEEPEST_NODE {
            return Err(ConditionError::TooComplex);
        }
        let lowered = match expr {
            Expr::Literal(literal) => literal_of(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) if list.optional_indices.is_empty() => {
                let items = self.all(list.elements.iter().map(|element| &element.expr))?;
                let inside = items.iter().any(|item| item.origin == Origin::Arguments);
                let origin = if inside { Origin::Arguments } else { Origin::Elsewhere };
                Ok(Typed::from(Node::List(items.into_iter().map(|item| item.node).collect()), Type::List, origin))
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(fold) => self.fold(fold),
            Expr::Map(_) => Err(ConditionError::Unsupported("an object literal")),
            Expr::Struct(_) => Err(ConditionError::Unsupported("a message literal")),
            Expr::List(_) => Err(ConditionError::Unsupported("an optional element")),
            Expr::Unspecified => Err(ConditionError::Unsupported("an empty expression")),
        };
        self.depth -= 1;
        lowered
    }

    fn all<'e>(&mut self, parts: impl Iterator<Item = &'e Expr>) -> Result<Vec<Typed>, ConditionError> {
        parts.map(|part| self.expression(part)).collect()
    }

    fn local(&self, name: &str) -> Option<(usize, Type, Origin)> {
        let place = self.locals.iter().rposition(|(local, _, _)| local == name)?;
        self.locals.get(place).map(|(_, kind, origin)| (place, *kind, *origin))
    }

    fn variable(&mut self, name: &str) -> Result<Typed, ConditionError> {
        if let Some((place, kind, origin)) = self.local(name) {
            return Ok(Typed::from(Node::Local(place), kind, origin));
        }
        match name {
            "claims" => Ok(Typed::new(Node::Root(Root::Claims), Type::Map)),
            "issuer" => Ok(Typed::new(Node::Root(Root::Issuer), Type::Text)),
            "subject" => Ok(Typed::new(Node::Root(Root::Subject), Type::Text)),
            "client" => Ok(Typed::new(Node::Root(Root::Client), Type::Text)),
            "arguments" if self.phase == Phase::List => Err(ConditionError::Arguments),
            "arguments" => {
                self.reads.arguments = true;
                Ok(Typed::from(Node::Root(Root::Arguments), Type::Map, Origin::Arguments))
            }
            "operation" => Err(ConditionError::Unsupported("`operation` without a field")),
            "scopes" => Err(ConditionError::Scopes),
            _ => Err(ConditionError::UnknownVariable(name.to_owned())),
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Typed, ConditionError> {
        if matches!(&select.operand.expr, Expr::Ident(name) if name == "operation" && self.local(name).is_none()) {
            let field = match select.field.as_str() {
                "kind" => Root::Kind,
                "method" => Root::Method,
                "name" => Root::Name,
                "uri" => Root::Uri,
                other => return Err(ConditionError::UnknownField(other.to_owned())),
            };
            self.reads.method |= field == Root::Method;
            self.reads.target |= matches!(field, Root::Name | Root::Uri) && !select.test;
            let (node, kind) =
                if select.test { (Node::HasField(field), Type::Bool) } else { (Node::Root(field), Type::Text) };
            return Ok(Typed::new(node, kind));
        }
        let of = self.expression(&select.operand.expr)?;
        of.demand(Type::Map, &format!("what has the field `{}`", select.field))?;
        let origin = of.origin;
        let member = Box::new(Member { of: of.node, name: select.field.as_str().into(), origin });
        Ok(if select.test {
            Typed::new(Node::Has(member), Type::Bool)
        } else {
            Typed::from(Node::Select(member), Type::Unknown, origin)
        })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Typed, ConditionError> {
        let target = call.target.iter().map(|target| &target.expr);
        let parts = self.all(target.chain(call.args.iter().map(|part| &part.expr)))?;
        match call.func_name.as_str() {
            operators::LOGICAL_AND => junction(parts, Node::All),
            operators::LOGICAL_OR => junction(parts, Node::Any),
            operators::CONDITIONAL => three(parts),
            operators::LOGICAL_NOT | operators::NEGATE | operators::NOT_STRICTLY_FALSE => one(parts, &call.func_name),
            name => {
                if let Some(operator) = operator(name) {
                    let [left, right] = <[Typed; 2]>::try_from(parts).map_err(|_| unknown(name))?;
                    return operator(left, right);
                }
                function(name, parts)
            }
        }
    }

    fn fold(&mut self, fold: &ComprehensionExpr) -> Result<Typed, ConditionError> {
        if fold.iter_var2.is_some() {
            return Err(ConditionError::Unsupported("a macro with two variables"));
        }
        let range = self.expression(&fold.iter_range.expr)?;
        if !range.kind.is(Type::List) && range.kind != Type::Map {
            return Err(ConditionError::Type(format!("`{}` must run over a list or an object", fold.iter_var)));
        }
        let start = self.expression(&fold.accu_init.expr)?;
        self.locals.push((fold.accu_var.clone(), start.kind, range.origin));
        self.locals.push((fold.iter_var.clone(), Type::Unknown, range.origin));
        let condition = self.expression(&fold.loop_cond.expr)?;
        let step = self.expression(&fold.loop_step.expr)?;
        step.demand(start.kind, "what is asked of every item")?;
        self.locals.pop();
        let inside = [range.origin, start.origin, step.origin].contains(&Origin::Arguments);
        let origin = if inside { Origin::Arguments } else { Origin::Elsewhere };
        if let Some((_, _, gathered)) = self.locals.last_mut() {
            *gathered = origin;
        }
        let result = self.expression(&fold.result.expr)?;
        self.locals.pop();
        let kind = result.kind;
        let (range, start, condition) = (range.node, start.node, condition.node);
        let fold = Fold { range, start, condition, step: step.node, result: result.node };
        Ok(Typed::from(Node::Fold(Box::new(fold)), kind, origin))
    }
}

fn literal_of(literal: &LiteralValue) -> Result<Typed, ConditionError> {
    Ok(match literal {
        LiteralValue::Null => Typed::new(Node::Null, Type::Null),
        LiteralValue::Boolean(value) => Typed::new(Node::Bool(*value.inner()), Type::Bool),
        LiteralValue::Int(value) => Typed::new(Node::Int(*value.inner()), Type::Int),
        LiteralValue::UInt(value) => Typed::new(Node::Uint(*value.inner()), Type::Uint),
        LiteralValue::Double(value) => Typed::new(Node::Double(*value.inner()), Type::Double),
        LiteralValue::String(value) => Typed::new(Node::Text(value.inner().into()), Type::Text),
        LiteralValue::Bytes(_) => return Err(ConditionError::Unsupported("a bytes literal")),
    })
}

fn unknown(name: &str) -> ConditionError {
    ConditionError::UnknownFunction(name.to_owned())
}

fn junction(parts: Vec<Typed>, node: fn(Vec<Node>) -> Node) -> Result<Typed, ConditionError> {
    parts.iter().try_for_each(|part| part.demand(Type::Bool, "each side of `&&` and `||`"))?;
    Ok(Typed::new(node(parts.into_iter().map(|part| part.node).collect()), Type::Bool))
}

fn three(parts: Vec<Typed>) -> Result<Typed, ConditionError> {
    let [asked, yes, no] = <[Typed; 3]>::try_from(parts).map_err(|_| unknown(operators::CONDITIONAL))?;
    asked.demand(Type::Bool, "what stands before `?`")?;
    let kind = if yes.kind == no.kind { yes.kind } else { Type::Unknown };
    let inside = yes.origin == Origin::Arguments || no.origin == Origin::Arguments;
    let origin = if inside { Origin::Arguments } else { Origin::Elsewhere };
    Ok(Typed::from(Node::Choose(Box::new([asked.node, yes.node, no.node])), kind, origin))
}

fn one(parts: Vec<Typed>, name: &str) -> Result<Typed, ConditionError> {
    let [part] = <[Typed; 1]>::try_from(parts).map_err(|_| unknown(name))?;
    if name == operators::NEGATE {
        if part.kind != Type::Unknown && !part.kind.is_number() {
            return Err(ConditionError::Type(format!("{} cannot be negated", part.kind.as_str())));
        }
        return Ok(Typed::new(Node::Negate(Box::new(part.node)), part.kind));
    }
    part.demand(Type::Bool, "what `!` negates")?;
    let node = if name == operators::LOGICAL_NOT { Node::Not } else { Node::NotFalse };
    Ok(Typed::new(node(Box::new(part.node)), Type::Bool))
}

type Operator = fn(Typed, Typed) -> Result<Typed, ConditionError>;

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        operators::EQUALS => |left, right| equality(left, right, Node::Equal),
        operators::NOT_EQUALS => |left, right| equality(left, right, Node::Unequal),
        operators::LESS => |left, right| ordering(left, right, Order::Less),
        operators::LESS_EQUALS => |left, right| ordering(left, right, Order::LessEqual),
        operators::GREATER => |left, right| ordering(left, right, Order::Greater),
        operators::GREATER_EQUALS => |left, right| ordering(left, right, Order::GreaterEqual),
        operators::ADD => |left, right| arithmetic(left, right, Arithmetic::Add),
        operators::SUBSTRACT => |left, right| arithmetic(left, right, Arithmetic::Subtract),
        operators::MULTIPLY => |left, right| arithmetic(left, right, Arithmetic::Multiply),
        operators::DIVIDE => |left, right| arithmetic(left, right, Arithmetic::Divide),
        operators::MODULO => |left, right| arithmetic(left, right, Arithmetic::Remainder),
        operators::INDEX => |of, key| {
            if !of.kind.is(Type::List) && of.kind != Type::Map {
                return Err(ConditionError::Type(format!("{} has no items", of.kind.as_str())));
            }
            Ok(Typed::from(Node::Index(Box::new([of.node, key.node])), Type::Unknown, of.origin))
        },
        operators::IN => |item, of| {
            if !of.kind.is(Type::List) && of.kind != Type::Map {
                return Err(ConditionError::Type(format!("`in` needs a list or an object, not {}", of.kind.as_str())));
            }
            Ok(Typed::new(Node::In(Box::new([item.node, of.node])), Type::Bool))
        },
        _ => return None,
    })
}

fn clash(what: &str, left: &Typed, right: &Typed) -> ConditionError {
    ConditionError::Type(format!("{} and {} cannot be {what}", left.kind.as_str(), right.kind.as_str()))
}

fn alike(left: Type, right: Type) -> bool {
    left == right || left == Type::Unknown || right == Type::Unknown || (left.is_number() && right.is_number())
}

fn equality(left: Typed, right: Typed, node: fn(Box<[Node; 2]>) -> Node) -> Result<Typed, ConditionError> {
    if !alike(left.kind, right.kind) {
        return Err(clash("equal", &left, &right));
    }
    Ok(Typed::new(node(Box::new([left.node, right.node])), Type::Bool))
}

fn ordering(left: Typed, right: Typed, order: Order) -> Result<Typed, ConditionError> {
    let ordered = |kind: Type| kind.is(Type::Text) || kind.is_number();
    if !alike(left.kind, right.kind) || !ordered(left.kind) || !ordered(right.kind) {
        return Err(clash("ordered", &left, &right));
    }
    Ok(Typed::new(Node::Order(order, Box::new([left.node, right.node])), Type::Bool))
}

fn arithmetic(left: Typed, right: Typed, operation: Arithmetic) -> Result<Typed, ConditionError> {
    let joined = |kind: Type| matches!(operation, Arithmetic::Add) && matches!(kind, Type::Text | Type::List);
    let usable = |kind: Type| kind == Type::Unknown || kind.is_number() || joined(kind);
    let same = left.kind == right.kind || left.kind == Type::Unknown || right.kind == Type::Unknown;
    if !same || !usable(left.kind) || !usable(right.kind) {
        return Err(clash("calculated with", &left, &right));
    }
    let kind = if left.kind == Type::Unknown { right.kind } else { left.kind };
    let inside = left.origin == Origin::Arguments || right.origin == Origin::Arguments;
    let origin = if inside { Origin::Arguments } else { Origin::Elsewhere };
    Ok(Typed::from(Node::Arithmetic(operation, Box::new([left.node, right.node])), kind, origin))
}

fn function(name: &str, parts: Vec<Typed>) -> Result<Typed, ConditionError> {
    if name == "matches" {
        let [subject, expression] = <[Typed; 2]>::try_from(parts).map_err(|_| unknown(name))?;
        subject.demand(Type::Text, "what `matches` looks at")?;
        let Node::Text(expression) = expression.node else {
            return Err(ConditionError::Unsupported("a regular expression that is not a literal"));
        };
        return Ok(Typed::new(Node::Matches(Box::new(subject.node), automaton::search(&expression)?), Type::Bool));
    }
    let (function, demanded, result): (_, &[Type], _) = match name {
        "size" => (Function::Size, &[Type::Unknown], Type::Int),
        "startsWith" => (Function::StartsWith, &[Type::Text, Type::Text], Type::Bool),
        "endsWith" => (Function::EndsWith, &[Type::Text, Type::Text], Type::Bool),
        "contains" => (Function::Contains, &[Type::Text, Type::Text], Type::Bool),
        "lowerAscii" => (Function::LowerAscii, &[Type::Text], Type::Text),
        "upperAscii" => (Function::UpperAscii, &[Type::Text], Type::Text),
        "int" => (Function::Int, &[Type::Unknown], Type::Int),
        "double" => (Function::Double, &[Type::Unknown], Type::Double),
        "string" => (Function::String, &[Type::Unknown], Type::Text),
        "dyn" => (Function::Dyn, &[Type::Unknown], Type::Unknown),
        _ => return Err(unknown(name)),
    };
    if parts.len() != demanded.len() {
        return Err(ConditionError::Type(format!(
            "`{name}` is called with {} values, not {}",
            parts.len(),
            demanded.len()
        )));
    }
    for (part, demanded) in parts.iter().zip(demanded).filter(|(_, demanded)| **demanded != Type::Unknown) {
        part.demand(*demanded, &format!("what `{name}` is called with"))?;
    }
    if function == Function::Size {
        let sized = parts.iter().all(|part| matches!(part.kind, Type::Unknown | Type::Text | Type::List | Type::Map));
        sized
            .then_some(())
            .ok_or_else(|| ConditionError::Type("`size` needs a text, a list or an object".to_owned()))?;
    }
    let inside = function == Function::Dyn && parts.iter().any(|part| part.origin == Origin::Arguments);
    let origin = if inside { Origin::Arguments } else { Origin::Elsewhere };
    Ok(Typed::from(Node::Call(function, parts.into_iter().map(|part| part.node).collect()), result, origin))
}
