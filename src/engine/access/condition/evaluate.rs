//! Runs a checked condition within a budget. It reads no clock, opens nothing and cannot panic.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::super::facts::{Cause, Facts, Kind};
use super::convert::convert;
use super::node::{Arithmetic, Fold, Function, Member, Node, Order, Origin, Root};
use super::value::Datum;
use crate::mcp::members::folded_equal;

/// Steps of one evaluation at most: a part of the expression, 64 bytes of text or 16 items copied are a step.
const BUDGET: usize = 10_000;
/// Nesting of compared values at most.
const DEEPEST: usize = 64;

pub(super) fn evaluate<'f>(node: &'f Node, facts: &'f Facts<'_>) -> Result<Datum<'f>, Cause> {
    Evaluation { facts, left: BUDGET, locals: Vec::new() }.run(node)
}

/// Names in causes come from the policy, never from claims or arguments.
struct Evaluation<'f> {
    facts: &'f Facts<'f>,
    left: usize,
    locals: Vec<Result<Datum<'f>, Cause>>,
}

pub(super) type Outcome<'f> = Result<Datum<'f>, Cause>;

pub(super) fn wrong<'f>() -> Outcome<'f> {
    Err(Cause::Borrowed("a value in the condition has the wrong type"))
}

impl<'f> Evaluation<'f> {
    fn pay(&mut self, steps: usize) -> Result<(), Cause> {
        self.left = self.left.checked_sub(steps).ok_or(Cause::Borrowed("the condition took too many steps"))?;
        Ok(())
    }

    fn run(&mut self, node: &'f Node) -> Outcome<'f> {
        self.pay(1)?;
        match node {
            Node::Null => Ok(Datum::Null),
            Node::Bool(value) => Ok(Datum::Bool(*value)),
            Node::Int(value) => Ok(Datum::Int(*value)),
            Node::Uint(value) => Ok(Datum::Uint(*value)),
            Node::Double(value) => Ok(Datum::Double(*value)),
            Node::Text(text) => Ok(Datum::Text(Cow::Borrowed(text))),
            Node::List(items) => {
                let items = items.iter().map(|item| self.run(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(Datum::List(Rc::new(items)))
            }
            Node::Root(root) => self.root(*root),
            Node::Local(place) => self.locals.get(*place).cloned().unwrap_or_else(wrong),
            Node::Select(member) => self.member(member)?.map(Datum::from).ok_or_else(|| absent(&member.name)),
            Node::Has(member) => Ok(Datum::Bool(self.member(member)?.is_some())),
            Node::HasField(root) => Ok(Datum::Bool(self.root(*root).is_ok())),
            Node::Index(parts) => self.index(parts),
            Node::Not(part) => self.boolean(part).map(|value| Datum::Bool(!value)),
            Node::Negate(part) => match self.run(part)? {
                Datum::Int(value) => value.checked_neg().map(Datum::Int).ok_or_else(overflow),
                Datum::Double(value) => Ok(Datum::Double(-value)),
                _ => wrong(),
            },
            Node::All(parts) => self.junction(parts, false),
            Node::Any(parts) => self.junction(parts, true),
            Node::Choose(parts) => {
                let [asked, yes, no] = parts.as_ref();
                if self.boolean(asked)? { self.run(yes) } else { self.run(no) }
            }
            Node::Equal(parts) => self.equal(parts).map(Datum::Bool),
            Node::Unequal(parts) => self.equal(parts).map(|equal| Datum::Bool(!equal)),
            Node::Order(order, parts) => self.order(*order, parts),
            Node::In(parts) => self.contained(parts),
            Node::Arithmetic(operation, parts) => self.arithmetic(*operation, parts),
            Node::Call(function, parts) => self.call(*function, parts),
            Node::Matches(part, regex) => {
                let text = self.text(part)?;
                Ok(Datum::Bool(regex.is_match(&text)))
            }
            Node::NotFalse(part) => Ok(Datum::Bool(!matches!(self.run(part), Ok(Datum::Bool(false))))),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    fn root(&self, root: Root) -> Outcome<'f> {
        let facts = self.facts;
        let text = |text: &'f str| Ok(Datum::Text(Cow::Borrowed(text)));
        match root {
            Root::Claims => Ok(Datum::Object(&facts.identity.claims)),
            Root::Issuer => text(&facts.identity.issuer),
            Root::Subject => facts.identity.subject.as_deref().map_or_else(|| Err(absent("subject")), text),
            Root::Client => facts.identity.client.as_deref().map_or_else(|| Err(absent("client")), text),
            Root::Arguments => facts.arguments().map(Datum::from),
            Root::Kind => text(facts.kind.as_str()),
            Root::Method => text(facts.method),
            Root::Name if matches!(facts.kind, Kind::Tool | Kind::Prompt) => text(facts.name),
            Root::Uri if facts.kind == Kind::Resource => text(facts.name),
            Root::Name => Err(absent("name")),
            Root::Uri => Err(absent("uri")),
        }
    }

    fn member(&mut self, member: &'f Member) -> Result<Option<&'f Value>, Cause> {
        let Datum::Object(members) = self.run(&member.of)? else {
            return Err(Cause::Owned(format!("`{}` is read of something that is not an object", member.name)));
        };
        self.unmistakable(members, &member.name, member.origin)?;
        Ok(members.get(member.name.as_ref()))
    }

    /// Refuses a member of the arguments that a lenient server could read in place of `name`.
    fn unmistakable(&mut self, members: &Map<String, Value>, name: &str, origin: Origin) -> Result<(), Cause> {
        if origin == Origin::Arguments {
            self.pay(members.len() / 8)?;
            if members.keys().any(|key| key != name && folded_equal(key, name)) {
                return Err(Cause::Borrowed("an argument that is read has a look-alike"));
            }
        }
        Ok(())
    }

    fn index(&mut self, parts: &'f [Node; 2]) -> Outcome<'f> {
        let [of, key] = parts;
        let (of, key) = (self.run(of)?, self.run(key)?);
        if let (Datum::Object(members), Datum::Text(name)) = (&of, &key) {
            // Claims have no look-alikes that matter, but a key that is computed is checked wherever it leads.
            self.unmistakable(members, name, Origin::Arguments)?;
            return members.get(name.as_ref()).map(Datum::from).ok_or(Cause::Borrowed("a key is absent"));
        }
        let place = match key {
            Datum::Int(place) => usize::try_from(place).ok(),
            Datum::Uint(place) => usize::try_from(place).ok(),
            _ => return wrong(),
        };
        match of {
            Datum::Array(items) => place.and_then(|place| items.get(place)).map(Datum::from),
            Datum::List(items) => place.and_then(|place| items.get(place).cloned()),
            _ => return wrong(),
        }
        .ok_or(Cause::Borrowed("an index is out of bounds"))
    }

    fn boolean(&mut self, node: &'f Node) -> Result<bool, Cause> {
        if let Datum::Bool(value) = self.run(node)? { Ok(value) } else { wrong().map(|_| false) }
    }

    fn text(&mut self, node: &'f Node) -> Result<Cow<'f, str>, Cause> {
        let Datum::Text(text) = self.run(node)? else { return wrong().map(|_| Cow::Borrowed("")) };
        self.pay(text.len() / 64)?;
        Ok(text)
    }

    /// As CEL has it: a part that settles the whole outweighs one that cannot be decided, in any order.
    fn junction(&mut self, parts: &'f [Node], settling: bool) -> Outcome<'f> {
        let mut undecided = None;
        for part in parts {
            match self.boolean(part) {
                Ok(value) if value == settling => return Ok(Datum::Bool(settling)),
                Ok(_) => {}
                Err(cause) => undecided = undecided.or(Some(cause)),
            }
        }
        undecided.map_or(Ok(Datum::Bool(!settling)), Err)
    }

    fn equal(&mut self, parts: &'f [Node; 2]) -> Result<bool, Cause> {
        let [left, right] = parts;
        // Only who writes `null` asks for it: of two values that happen to be null nothing is known.
        let asks_for_null = matches!(left, Node::Null) || matches!(right, Node::Null);
        let (left, right) = (self.run(left)?, self.run(right)?);
        if asks_for_null {
            return Ok(matches!((left, right), (Datum::Null, Datum::Null)));
        }
        self.same(&left, &right, DEEPEST)
    }

    /// Values of different kinds, and nulls, are neither equal nor unequal: another type must not evade a rule.
    fn same(&mut self, left: &Datum<'_>, right: &Datum<'_>, depth: usize) -> Result<bool, Cause> {
        self.pay(1)?;
        let deeper = depth.checked_sub(1).ok_or(Cause::Borrowed("compared values are nested too deeply"))?;
        match (left, right) {
            (Datum::Bool(left), Datum::Bool(right)) => Ok(left == right),
            (Datum::Text(left), Datum::Text(right)) => {
                self.pay(left.len().min(right.len()) / 64)?;
                Ok(left == right)
            }
            (Datum::Object(left), Datum::Object(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (name, value) in *left {
                    let Some(other) = right.get(name) else { return Ok(false) };
                    if !self.same(&Datum::from(value), &Datum::from(other), deeper)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => match (left.items(), right.items()) {
                (Some(left), Some(right)) => {
                    if left.len() != right.len() {
                        return Ok(false);
                    }
                    for place in 0..left.len() {
                        let (Some(left), Some(right)) = (left.nth(place), right.nth(place)) else { return Ok(false) };
                        if !self.same(&left, &right, deeper)? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
                _ if left.is_number() && right.is_number() => Ok(left.order(right) == Some(Ordering::Equal)),
                _ => Err(Cause::Borrowed("values of different kinds are compared")),
            },
        }
    }

    fn order(&mut self, order: Order, parts: &'f [Node; 2]) -> Outcome<'f> {
        let [left, right] = parts;
        let (left, right) = (self.run(left)?, self.run(right)?);
        if let (Datum::Text(left), Datum::Text(right)) = (&left, &right) {
            self.pay(left.len().min(right.len()) / 64)?;
        }
        let Some(found) = left.order(&right) else { return wrong() };
        Ok(Datum::Bool(match order {
            Order::Less => found.is_lt(),
            Order::LessEqual => found.is_le(),
            Order::Greater => found.is_gt(),
            Order::GreaterEqual => found.is_ge(),
        }))
    }

    fn contained(&mut self, parts: &'f [Node; 2]) -> Outcome<'f> {
        let [item, of] = parts;
        let (item, of) = (self.run(item)?, self.run(of)?);
        if let (Datum::Object(members), Datum::Text(name)) = (&of, &item) {
            self.unmistakable(members, name, Origin::Arguments)?;
            return Ok(Datum::Bool(members.contains_key(name.as_ref())));
        }
        let Some(items) = of.items() else { return wrong() };
        let mut undecided = None;
        for other in (0..items.len()).filter_map(|place| items.nth(place)) {
            match self.same(&item, &other, DEEPEST) {
                Ok(true) => return Ok(Datum::Bool(true)),
                Ok(false) => {}
                Err(cause) => undecided = undecided.or(Some(cause)),
            }
        }
        undecided.map_or(Ok(Datum::Bool(false)), Err)
    }

    fn arithmetic(&mut self, operation: Arithmetic, parts: &'f [Node; 2]) -> Outcome<'f> {
        let [left, right] = parts;
        let (left, right) = (self.run(left)?, self.run(right)?);
        match (left, right) {
            (Datum::Int(left), Datum::Int(right)) => match operation {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_sub(right),
                Arithmetic::Multiply => left.checked_mul(right),
                Arithmetic::Divide => left.checked_div(right),
                Arithmetic::Remainder => left.checked_rem(right),
            }
            .map(Datum::Int)
            .ok_or_else(overflow),
            (Datum::Uint(left), Datum::Uint(right)) => match operation {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_sub(right),
                Arithmetic::Multiply => left.checked_mul(right),
                Arithmetic::Divide => left.checked_div(right),
                Arithmetic::Remainder => left.checked_rem(right),
            }
            .map(Datum::Uint)
            .ok_or_else(overflow),
            (Datum::Double(left), Datum::Double(right)) => match operation {
                Arithmetic::Add => Ok(Datum::Double(left + right)),
                Arithmetic::Subtract => Ok(Datum::Double(left - right)),
                Arithmetic::Multiply => Ok(Datum::Double(left * right)),
                Arithmetic::Divide => Ok(Datum::Double(left / right)),
                Arithmetic::Remainder => wrong(),
            },
            (left, right) if matches!(operation, Arithmetic::Add) => self.join(left, &right),
            _ => wrong(),
        }
    }

    fn join(&mut self, left: Datum<'f>, right: &Datum<'f>) -> Outcome<'f> {
        match (left, right) {
            (Datum::Text(left), Datum::Text(right)) => {
                self.pay((left.len() + right.len()) / 64)?;
                Ok(Datum::Text(Cow::Owned(left.into_owned() + right)))
            }
            (left, right) => {
                let mut all = self.listed(&left)?;
                all.extend(self.listed(right)?);
                Ok(Datum::List(Rc::new(all)))
            }
        }
    }

    fn listed(&mut self, list: &Datum<'f>) -> Result<Vec<Datum<'f>>, Cause> {
        match list {
            Datum::List(items) => {
                self.pay(items.len() / 16)?;
                Ok(items.to_vec())
            }
            Datum::Array(items) => {
                self.pay(items.len() / 16)?;
                Ok(items.iter().map(Datum::from).collect())
            }
            _ => wrong().map(|_| Vec::new()),
        }
    }

    fn call(&mut self, function: Function, parts: &'f [Node]) -> Outcome<'f> {
        let Some((first, rest)) = parts.split_first() else { return wrong() };
        let (first, second) = (self.run(first)?, rest.first().map(|part| self.text(part)).transpose()?);
        if let Datum::Text(text) = &first {
            self.pay(text.len() / 64)?;
        }
        match (function, first, second) {
            (Function::Dyn, value, None) => Ok(value),
            (Function::Size, value, None) => {
                let size = match &value {
                    Datum::Text(text) => text.chars().count(),
                    Datum::Object(members) => members.len(),
                    other => other.items().map_or_else(|| wrong().map(|_| 0), |items| Ok(items.len()))?,
                };
                i64::try_from(size).map(Datum::Int).map_err(|_| overflow())
            }
            (Function::StartsWith, Datum::Text(text), Some(part)) => Ok(Datum::Bool(text.starts_with(part.as_ref()))),
            (Function::EndsWith, Datum::Text(text), Some(part)) => Ok(Datum::Bool(text.ends_with(part.as_ref()))),
            (Function::Contains, Datum::Text(text), Some(part)) => Ok(Datum::Bool(text.contains(part.as_ref()))),
            (Function::LowerAscii, Datum::Text(text), None) => Ok(Datum::Text(text.to_ascii_lowercase().into())),
            (Function::UpperAscii, Datum::Text(text), None) => Ok(Datum::Text(text.to_ascii_uppercase().into())),
            (function, value, None) => convert(function, value),
            _ => wrong(),
        }
    }

    fn fold(&mut self, fold: &'f Fold) -> Outcome<'f> {
        let range = self.run(&fold.range)?;
        let start = self.run(&fold.start);
        let place = self.locals.len();
        self.locals.push(start);
        self.locals.push(Ok(Datum::Null));
        let outcome = self.turns(fold, &range, place);
        self.locals.truncate(place + 1);
        let result = outcome.and_then(|()| self.run(&fold.result));
        self.locals.truncate(place);
        result
    }

    fn turns(&mut self, fold: &'f Fold, range: &Datum<'f>, place: usize) -> Result<(), Cause> {
        match range {
            Datum::Array(items) => items.iter().try_for_each(|item| self.turn(fold, Datum::from(item), place)),
            Datum::List(items) => items.iter().try_for_each(|item| self.turn(fold, item.clone(), place)),
            Datum::Object(members) => {
                members.keys().try_for_each(|name| self.turn(fold, Datum::Text(Cow::Borrowed(name)), place))
            }
            _ => wrong().map(|_| ()),
        }
    }

    fn turn(&mut self, fold: &'f Fold, item: Datum<'f>, place: usize) -> Result<(), Cause> {
        if let Some(local) = self.locals.get_mut(place + 1) {
            *local = Ok(item);
        }
        if !self.boolean(&fold.condition)? {
            return Ok(());
        }
        // An item that cannot be decided is kept as such: a later one may settle the whole.
        let step = self.run(&fold.step);
        if let Some(local) = self.locals.get_mut(place) {
            *local = step;
        }
        self.pay(0)
    }
}

fn absent(name: &str) -> Cause {
    Cause::Owned(format!("`{name}` is absent"))
}

pub(super) fn overflow() -> Cause {
    Cause::Borrowed("a number in the condition overflows")
}
