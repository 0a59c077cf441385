//! Says before anything is published what cannot work, and has what costs [paid](super::payment) for.
//!
//! Types are checked as far as they are known: those of attributes, times and literals are, those of data are not.

use std::collections::HashMap;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use regex::{Regex, RegexBuilder};

use super::{
    Fault, MAX_DEPTH, arithmetic,
    functions::{self, Unfit},
    kind::{INDICES, KEYS, Kind, LOOKED_UP, ORDERED, fits, listed, of_literal},
    meter,
    payment::{spend, spend_all, wrapped},
};

/// The most nodes of an expression, after its macros are expanded.
const MAX_NODES: u64 = 1_000;
/// The largest pattern, compiled.
const MAX_PATTERN: usize = 64 << 10;
/// How deep groups of a pattern can be nested.
const MAX_PATTERN_NESTING: u32 = 32;
/// The most patterns of an expression.
const MAX_PATTERNS: usize = 16;

/// Checks one expression.
pub(super) struct Checker<'s> {
    text: &'s str,
    source: &'s SourceInfo,
    /// Variables with what is known of them, the innermost last.
    scope: Vec<(String, Kind)>,
    depth: usize,
    nodes: u64,
    pub(super) patterns: HashMap<String, Regex>,
}

impl<'s> Checker<'s> {
    pub(super) fn new(text: &'s str, source: &'s SourceInfo) -> Self {
        let known = [
            ("type", Kind::Text),
            ("source", Kind::Text),
            ("subject", Kind::Text),
            ("attributes", Kind::Texts),
            ("time", Kind::Time),
            ("data", Kind::Any),
        ];
        let scope = known.map(|(name, kind)| (name.to_owned(), kind)).into();
        Self { text, source, scope, depth: 0, nodes: 0, patterns: HashMap::new() }
    }

    /// Checks that there can be a bool in the end; returns the number of nodes.
    pub(super) fn check_whole(&mut self, ast: &mut IdedExpr) -> Result<u64, Fault> {
        match self.check(ast)? {
            Kind::Bool | Kind::Any => Ok(self.nodes),
            kind => Err(self.fault(ast.id, format!("the result is {}, but must be a bool", kind.name()))),
        }
    }

    fn check(&mut self, node: &mut IdedExpr) -> Result<Kind, Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.fault(node.id, format!("the expression has more than {MAX_NODES} parts")));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.fault(node.id, format!("the expression is nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let id = node.id;
        let kind = match &mut node.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.variable(id, name),
            Expr::Select(select) => {
                let is_test = select.test;
                self.check(&mut select.operand).and_then(|operand| match (operand, is_test) {
                    (Kind::Any | Kind::Map | Kind::Texts, true) => Ok(Kind::Bool),
                    (Kind::Texts, false) => Ok(Kind::Text),
                    (Kind::Any | Kind::Map, false) => Ok(Kind::Any),
                    (kind, _) => {
                        Err(self.fault(id, format!("{} has no field `{}`", kind.name(), select.field)))
                    }
                })
            }
            Expr::Call(call) => self.call(id, call),
            Expr::List(list) => {
                let parts = list.elements.iter_mut().try_for_each(|element| self.part(element).map(drop));
                parts.map(|()| Kind::List)
            }
            Expr::Map(map) => {
                let entries = map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        self.key(&mut entry.key).and_then(|()| self.part(&mut entry.value).map(drop))
                    }
                    EntryExpr::StructField(_) => Err(self.fault(id, "messages cannot be made".to_owned())),
                });
                entries.map(|()| Kind::Map)
            }
            Expr::Comprehension(comprehension) => self.comprehension(id, comprehension),
            Expr::Struct(_) => Err(self.fault(id, "messages cannot be made".to_owned())),
            Expr::Unspecified => Err(self.fault(id, "this is no expression".to_owned())),
        }?;
        self.depth -= 1;
        Ok(kind)
    }

    fn variable(&self, id: u64, name: &str) -> Result<Kind, Fault> {
        let known = self.scope.iter().rev().find(|(known, _)| known == name);
        known.map(|(_, kind)| *kind).ok_or_else(|| {
            let message = format!(
                "there is no `{name}`; there are `data`, `attributes`, `type`, `source`, `subject` and `time`"
            );
            self.fault(id, message)
        })
    }

    /// A part that is copied into what is made of it.
    fn part(&mut self, node: &mut IdedExpr) -> Result<Kind, Fault> {
        let kind = self.check(node)?;
        spend(node, kind);
        Ok(kind)
    }

    fn key(&mut self, node: &mut IdedExpr) -> Result<(), Fault> {
        let id = node.id;
        let kind = self.part(node)?;
        if KEYS.iter().any(|key| fits(kind, *key)) {
            return Ok(());
        }
        Err(self.fault(id, format!("a key of a map cannot be {}, but {}", kind.name(), listed(KEYS))))
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) -> Result<Kind, Fault> {
        if call.func_name == "matches" {
            return self.matches(id, call);
        }
        let target = call.target.as_mut().map(|target| self.check(target)).transpose()?;
        let kinds: Vec<Kind> = call.args.iter_mut().map(|arg| self.check(arg)).collect::<Result<_, _>>()?;
        let name = call.func_name.as_str();
        let shown = shown(name);
        match (name, &kinds[..]) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                self.expect(id, &shown, *condition, &[Kind::Bool])?;
                Ok(if yes == no { *yes } else { Kind::Any })
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right]) => {
                self.expect(call.args[0].id, &shown, *left, &[Kind::Bool])?;
                self.expect(call.args[1].id, &shown, *right, &[Kind::Bool])?;
                Ok(Kind::Bool)
            }
            (operators::LOGICAL_NOT, [operand]) => {
                self.expect(id, &shown, *operand, &[Kind::Bool])?;
                Ok(Kind::Bool)
            }
            (operators::NEGATE, [operand]) => {
                self.expect(id, &shown, *operand, &[Kind::Int, Kind::Double])?;
                spend(&mut call.args[0], *operand);
                Ok(*operand)
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                self.expect_comparable(id, &shown, *left, *right)?;
                // To compare with a literal costs as much as the literal is long.
                if !is_literal(&call.args[0]) && !is_literal(&call.args[1]) {
                    spend(&mut call.args[0], *left);
                }
                Ok(Kind::Bool)
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [left, right],
            ) => {
                self.expect_comparable(id, &shown, *left, *right)?;
                self.expect(id, &shown, *left, ORDERED)?;
                self.expect(id, &shown, *right, ORDERED)?;
                spend_all(&mut call.args, &kinds);
                Ok(Kind::Bool)
            }
            (operators::IN, [_, container]) => {
                self.expect(id, &shown, *container, &[Kind::List, Kind::Map, Kind::Texts])?;
                spend_all(&mut call.args, &kinds);
                Ok(Kind::Bool)
            }
            (operators::INDEX, [container, index]) => {
                self.expect(id, &shown, *container, &[Kind::List, Kind::Map, Kind::Texts])?;
                self.expect_index(call.args[1].id, *container, *index)?;
                Ok(if *container == Kind::Texts { Kind::Text } else { Kind::Any })
            }
            (
                operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO,
                [left, right],
            ) => {
                let Some(kind) = arithmetic::result(name, *left, *right) else {
                    let advice = arithmetic::advice(name, *left, *right);
                    let (left, right) = (left.name(), right.name());
                    let message = format!("`{shown}` cannot be used with {left} and {right}{advice}");
                    return Err(self.fault(id, message));
                };
                spend_all(&mut call.args, &kinds);
                Ok(kind)
            }
            _ => self.function(id, call, target, &kinds),
        }
    }

    fn function(
        &self,
        id: u64,
        call: &mut CallExpr,
        target: Option<Kind>,
        kinds: &[Kind],
    ) -> Result<Kind, Fault> {
        let name = call.func_name.as_str();
        let returned = functions::returned(name, target, kinds);
        let returned = returned.map_err(|unfit| self.unfit(id, call, target, kinds, &unfit))?;
        if let (Some(kind), Some(node)) = (target, call.target.as_mut()) {
            spend(node, kind);
        }
        if name != operators::NOT_STRICTLY_FALSE {
            spend_all(&mut call.args, kinds);
        }
        Ok(returned)
    }

    fn unfit(&self, id: u64, call: &CallExpr, target: Option<Kind>, kinds: &[Kind], unfit: &Unfit) -> Fault {
        let name = call.func_name.as_str();
        let at_name = |message| self.fault_in(id, name, message);
        match unfit {
            Unfit::Unknown => at_name(format!("there is no function `{}`", shown(name))),
            Unfit::Misused => at_name(format!("`{name}` is not called like this")),
            Unfit::Target(allowed) => {
                let on = target.map_or("nothing", Kind::name);
                at_name(format!("`{name}` cannot be called on {on}, but on {}", listed(allowed)))
            }
            Unfit::Argument(index, allowed) => {
                let place = call.args.get(*index).map_or(id, |argument| argument.id);
                let given = kinds.get(*index).map_or("nothing", |kind| kind.name());
                self.fault(
                    place,
                    format!("`{name}` cannot be used with {given}, but with {}", listed(allowed)),
                )
            }
        }
    }

    /// Compiles the pattern and puts a call in place that uses it.
    fn matches(&mut self, id: u64, call: &mut CallExpr) -> Result<Kind, Fault> {
        let mut args: Vec<IdedExpr> = call.target.take().map(|target| *target).into_iter().collect();
        args.append(&mut call.args);
        let [text, pattern] = &mut args[..] else {
            return Err(self.fault(id, "`matches` takes a text and a pattern".to_owned()));
        };
        let kind = self.check(text)?;
        self.expect(id, "matches", kind, &[Kind::Text])?;
        self.check(pattern)?;
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return Err(self.fault(pattern.id, "the pattern of `matches` must be a literal".to_owned()));
        };
        let literal = literal.inner();
        if !self.patterns.contains_key(literal) {
            if self.patterns.len() >= MAX_PATTERNS {
                return Err(self.fault(id, format!("there are more than {MAX_PATTERNS} patterns")));
            }
            let mut builder = RegexBuilder::new(literal);
            builder.size_limit(MAX_PATTERN).nest_limit(MAX_PATTERN_NESTING);
            let compiled = builder.build().map_err(|cause| {
                let cause = cause.to_string();
                let last = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.fault(pattern.id, format!("the pattern cannot be used: {last}"))
            })?;
            self.patterns.insert(literal.to_owned(), compiled);
        }
        spend(text, kind);
        meter::MATCHES.clone_into(&mut call.func_name);
        call.args = args;
        Ok(Kind::Bool)
    }

    fn comprehension(&mut self, id: u64, loop_: &mut ComprehensionExpr) -> Result<Kind, Fault> {
        let range = self.check(&mut loop_.iter_range)?;
        self.expect(id, "a macro", range, &[Kind::List, Kind::Map, Kind::Texts])?;
        let accumulated = self.check(&mut loop_.accu_init)?;
        let before = self.nodes;
        let outside = self.scope.len();
        self.scope.push((loop_.accu_var.clone(), accumulated));
        let item = if range == Kind::Texts { Kind::Text } else { Kind::Any };
        self.scope.push((loop_.iter_var.clone(), item));
        self.check(&mut loop_.loop_cond)?;
        self.check(&mut loop_.loop_step)?;
        self.scope.truncate(outside + 1);
        // Inner loops pay for their own rounds; that theirs are counted here as well does not matter.
        let round = self.nodes - before;
        let result = self.check(&mut loop_.result)?;
        self.scope.truncate(outside);
        let cost = i64::try_from(round).unwrap_or(i64::MAX);
        let range = std::mem::take(&mut loop_.iter_range);
        let cost = IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(cost.into())) };
        loop_.iter_range = wrapped(meter::SPEND_ON_ROUNDS, range.id, vec![range, cost]);
        let condition = std::mem::take(&mut loop_.loop_cond);
        loop_.loop_cond = wrapped(meter::ROUND, condition.id, vec![condition]);
        Ok(result)
    }

    fn expect(&self, id: u64, what: &str, kind: Kind, allowed: &[Kind]) -> Result<(), Fault> {
        let may_be = kind == Kind::Any || (kind == Kind::Calculated && allowed != [Kind::Bool]);
        if may_be || allowed.contains(&kind) {
            return Ok(());
        }
        Err(self.fault(id, format!("`{what}` cannot be used with {}", kind.name())))
    }

    /// What is looked up in a container.
    fn expect_index(&self, id: u64, container: Kind, index: Kind) -> Result<(), Fault> {
        let allowed = match container {
            Kind::List => INDICES,
            Kind::Map => LOOKED_UP,
            Kind::Texts => &[Kind::Text],
            _ => return Ok(()),
        };
        if allowed.iter().any(|kind| fits(index, *kind)) {
            return Ok(());
        }
        let (container, index) = (container.name(), index.name());
        Err(self
            .fault(id, format!("{container} cannot be looked into by {index}, but by {}", listed(allowed))))
    }

    fn expect_comparable(&self, id: u64, what: &str, left: Kind, right: Kind) -> Result<(), Fault> {
        let is_number = |kind| matches!(kind, Kind::Int | Kind::Uint | Kind::Double);
        let is_map = |kind| matches!(kind, Kind::Map | Kind::Texts);
        let either = |kind| left == kind || right == kind;
        let fits = left == right
            || either(Kind::Any)
            || either(Kind::Calculated)
            || either(Kind::Null)
            || (is_number(left) && is_number(right))
            || (is_map(left) && is_map(right));
        if fits {
            return Ok(());
        }
        Err(self.fault(id, format!("`{what}` cannot compare {} with {}", left.name(), right.name())))
    }

    fn fault(&self, id: u64, message: String) -> Fault {
        self.fault_in(id, "", message)
    }

    /// Of a call, which is placed where its brackets open, at its name.
    fn fault_in(&self, id: u64, name: &str, message: String) -> Fault {
        let start = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before = self.text.get(..start).unwrap_or_default();
        let before = before.strip_suffix(name).unwrap_or(before);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Fault { line, column, message }
    }
}

fn is_literal(node: &IdedExpr) -> bool {
    matches!(node.expr, Expr::Literal(_))
}

/// Operators as they are written.
fn shown(name: &str) -> String {
    match name {
        operators::CONDITIONAL => "?:".to_owned(),
        operators::INDEX => "[]".to_owned(),
        operators::IN => "in".to_owned(),
        name => name.trim_matches('_').to_owned(),
    }
}
