//! What of the language is let through, and what of it is paid for.
//!
//! The syntax tree is built anew from the parts that are known to be harmless; anything else is an error with its place. Operands of
//! operators whose cost grows with them go through a filter of [`budget`](super::budget) that no template can name.

use minijinja::{
    Value,
    machinery::{
        self, Span, Token,
        ast::{
            BinOp, BinOpKind, CallArg, Compare, CompareOp, Const, EmitExpr, Expr, Filter, ForLoop, GetAttr,
            GetItem, IfCond, IfExpr, List, Map, Set, Spanned, Stmt, Template, Test, UnaryOp, UnaryOpKind,
            Var, WithBlock,
        },
    },
    syntax::SyntaxConfig,
};

use super::{
    TESTS,
    budget::{ADDEND, INDEXED, ITERATED, NUMBER, PAID},
    filters,
};

/// The most tokens between `{{` and `}}`, or `{%` and `%}`. The parser calls itself for some of them, as do all that walk the tree.
const MAX_TOKENS: usize = 400;
/// The most branches of all `elif`, each of which lies within the one before.
const MAX_BRANCHES: usize = 100;

/// What is not let through.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: String,
    /// Where it begins in the source.
    pub(super) offset: usize,
}

impl Refused {
    fn new(reason: impl Into<String>, span: Span) -> Self {
        Self { reason: reason.into(), offset: span.start_offset as usize }
    }
}

type Result<T> = std::result::Result<T, Refused>;

/// Looks at the source before it is parsed: a tree that is too deep would exhaust the stack.
pub(super) fn source(source: &str) -> std::result::Result<(), Refused> {
    let (mut tokens, mut branches) = (0, 0);
    // What cannot be read is for the parser to say.
    for (token, span) in
        machinery::tokenize(source, false, SyntaxConfig::default()).map_while(std::result::Result::ok)
    {
        match token {
            Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") if tokens == 0 => branches += 1,
            _ => tokens += 1,
        }
        if tokens > MAX_TOKENS {
            let reason = format!("is longer than {MAX_TOKENS} words and signs; use several expressions");
            return Err(Refused::new(reason, span));
        }
        if branches > MAX_BRANCHES {
            return Err(Refused::new(format!("is one `elif` too many; {MAX_BRANCHES} are allowed"), span));
        }
    }
    Ok(())
}

/// The whole, as it may be run.
pub(super) fn template<'a>(parsed: &Stmt<'a>) -> Result<Stmt<'a>> {
    match parsed {
        Stmt::Template(node) => {
            let children = statements(&node.children)?;
            Ok(Stmt::Template(Spanned::new(Template { children }, node.span())))
        }
        other => statement(other),
    }
}

fn statements<'a>(all: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>> {
    all.iter().map(statement).collect()
}

fn statement<'a>(stmt: &Stmt<'a>) -> Result<Stmt<'a>> {
    let refuse = |what: &str, span| {
        let reason = format!(
            "{what} cannot be used here; there are `for`, `if`, `set` (without a body), `with`, and output"
        );
        Err(Refused::new(reason, span))
    };
    Ok(match stmt {
        Stmt::EmitExpr(node) => {
            let expr = expression(&node.expr)?;
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, node.span()))
        }
        // Text goes through the formatter too, which counts what is written. It is written as it is.
        Stmt::EmitRaw(node) => {
            let value = Value::from_safe_string(node.raw.to_owned());
            let expr = Expr::Const(Spanned::new(Const { value }, node.span()));
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, node.span()))
        }
        Stmt::ForLoop(node) => {
            if node.recursive {
                return refuse("a recursive loop", node.span());
            }
            let filter_expr = node.filter_expr.as_ref().map(expression).transpose()?;
            let next = ForLoop {
                target: target(&node.target)?,
                iter: through(ITERATED, expression(&node.iter)?),
                filter_expr,
                recursive: false,
                body: statements(&node.body)?,
                else_body: statements(&node.else_body)?,
            };
            Stmt::ForLoop(Spanned::new(next, node.span()))
        }
        Stmt::IfCond(node) => {
            let next = IfCond {
                expr: expression(&node.expr)?,
                true_body: statements(&node.true_body)?,
                false_body: statements(&node.false_body)?,
            };
            Stmt::IfCond(Spanned::new(next, node.span()))
        }
        Stmt::WithBlock(node) => {
            let assign = |(name, value): &(Expr<'a>, Expr<'a>)| Ok((target(name)?, expression(value)?));
            let next = WithBlock {
                assignments: node.assignments.iter().map(assign).collect::<Result<_>>()?,
                body: statements(&node.body)?,
            };
            Stmt::WithBlock(Spanned::new(next, node.span()))
        }
        Stmt::Set(node) => {
            let next = Set { target: target(&node.target)?, expr: expression(&node.expr)? };
            Stmt::Set(Spanned::new(next, node.span()))
        }
        Stmt::SetBlock(node) => return refuse("`set` with a body", node.span()),
        Stmt::AutoEscape(node) => return refuse("`autoescape`", node.span()),
        Stmt::FilterBlock(node) => return refuse("a filter block", node.span()),
        Stmt::Do(node) => return refuse("`do`", node.span()),
        // The library knows it only at the top.
        Stmt::Template(node) => return refuse("a template", node.span()),
    })
}

/// What is assigned to: a name, or several that a list is unpacked to.
fn target<'a>(expr: &Expr<'a>) -> Result<Expr<'a>> {
    let names = |items: &[Expr<'a>]| items.iter().map(target).collect::<Result<Vec<_>>>();
    Ok(match expr {
        Expr::Var(node) => Expr::Var(Spanned::new(Var { id: node.id }, node.span())),
        Expr::List(node) => Expr::List(Spanned::new(List { items: names(&node.items)? }, node.span())),
        Expr::Tuple(node) => Expr::List(Spanned::new(List { items: names(&node.items)? }, node.span())),
        other => return Err(Refused::new("only names can be assigned to", other.span())),
    })
}

fn expression<'a>(expr: &Expr<'a>) -> Result<Expr<'a>> {
    let list = |items: &[Expr<'a>], span| {
        let items = items.iter().map(expression).collect::<Result<_>>()?;
        Ok(Expr::List(Spanned::new(List { items }, span)))
    };
    Ok(match expr {
        Expr::Var(node) => Expr::Var(Spanned::new(Var { id: node.id }, node.span())),
        Expr::Const(node) => Expr::Const(Spanned::new(Const { value: node.value.clone() }, node.span())),
        Expr::UnaryOp(node) => {
            let is_not = matches!(node.op, UnaryOpKind::Not);
            let op = if is_not { UnaryOpKind::Not } else { UnaryOpKind::Neg };
            let next = UnaryOp { op, expr: expression(&node.expr)? };
            Expr::UnaryOp(Spanned::new(next, node.span()))
        }
        Expr::BinOp(node) => {
            let next = BinOp {
                op: node.op,
                left: operand(node.op, expression(&node.left)?),
                right: operand(node.op, expression(&node.right)?),
            };
            Expr::BinOp(Spanned::new(next, node.span()))
        }
        Expr::Compare(node) => {
            let compared =
                |op: &CompareOp<'a>| Ok(CompareOp { op: op.op, expr: through(PAID, expression(&op.expr)?) });
            let next = Compare {
                expr: through(PAID, expression(&node.expr)?),
                ops: node.ops.iter().map(compared).collect::<Result<_>>()?,
            };
            Expr::Compare(Spanned::new(next, node.span()))
        }
        Expr::IfExpr(node) => {
            let next = IfExpr {
                test_expr: expression(&node.test_expr)?,
                true_expr: expression(&node.true_expr)?,
                false_expr: node.false_expr.as_ref().map(expression).transpose()?,
            };
            Expr::IfExpr(Spanned::new(next, node.span()))
        }
        Expr::Filter(node) => filter(node)?,
        Expr::Test(node) => test(node)?,
        Expr::GetAttr(node) => {
            let next = GetAttr { expr: expression(&node.expr)?, name: node.name };
            Expr::GetAttr(Spanned::new(next, node.span()))
        }
        Expr::GetItem(node) => {
            let next = GetItem {
                expr: through(INDEXED, expression(&node.expr)?),
                subscript_expr: through(PAID, expression(&node.subscript_expr)?),
            };
            Expr::GetItem(Spanned::new(next, node.span()))
        }
        Expr::List(node) => list(&node.items, node.span())?,
        Expr::Tuple(node) => list(&node.items, node.span())?,
        Expr::Map(node) => {
            let keys = node.keys.iter().map(|key| Ok(through(PAID, expression(key)?)));
            let next = Map {
                keys: keys.collect::<Result<_>>()?,
                values: node.values.iter().map(expression).collect::<Result<_>>()?,
            };
            Expr::Map(Spanned::new(next, node.span()))
        }
        Expr::Slice(node) => {
            return Err(Refused::new(
                "slices cannot be used here; the filter `truncate` shortens texts",
                node.span(),
            ));
        }
        Expr::Call(node) => {
            return Err(Refused::new(
                "functions and methods cannot be called here; there are filters",
                node.span(),
            ));
        }
    })
}

fn filter<'a>(node: &Spanned<Filter<'a>>) -> Result<Expr<'a>> {
    let Some(cost) = filters::cost(node.name) else {
        let known = filters::names().collect::<Vec<_>>().join("`, `");
        let reason = format!("there is no filter `{}`; there are `{known}`", shown(node.name));
        return Err(Refused::new(reason, node.span()));
    };
    let input = node.expr.as_ref().map(expression).transpose()?;
    let expr = input.map(|input| through(cost, input));
    let next = Filter { name: node.name, expr, args: arguments(&node.args)? };
    Ok(Expr::Filter(Spanned::new(next, node.span())))
}

fn test<'a>(node: &Spanned<Test<'a>>) -> Result<Expr<'a>> {
    if !TESTS.contains(&node.name) {
        let (name, known) = (shown(node.name), TESTS.join("`, `"));
        return Err(Refused::new(format!("there is no test `{name}`; there are `{known}`"), node.span()));
    }
    let next = Test { name: node.name, expr: expression(&node.expr)?, args: arguments(&node.args)? };
    Ok(Expr::Test(Spanned::new(next, node.span())))
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Result<Vec<CallArg<'a>>> {
    let argument = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => Ok(CallArg::Pos(through(PAID, expression(expr)?))),
        CallArg::Kwarg(name, expr) => Ok(CallArg::Kwarg(name, through(PAID, expression(expr)?))),
        CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
            Err(Refused::new("arguments cannot be unpacked here", expr.span()))
        }
    };
    args.iter().map(argument).collect()
}

/// What an operand of this operator has to pay.
fn operand(op: BinOpKind, expr: Expr<'_>) -> Expr<'_> {
    match op {
        // They look at one side and pass the other on.
        BinOpKind::ScAnd | BinOpKind::ScOr => expr,
        BinOpKind::Add => through(ADDEND, expr),
        BinOpKind::Sub
        | BinOpKind::Mul
        | BinOpKind::Div
        | BinOpKind::FloorDiv
        | BinOpKind::Rem
        | BinOpKind::Pow => through(NUMBER, expr),
        BinOpKind::Eq
        | BinOpKind::Ne
        | BinOpKind::Lt
        | BinOpKind::Lte
        | BinOpKind::Gt
        | BinOpKind::Gte
        | BinOpKind::Concat
        | BinOpKind::In => through(PAID, expr),
    }
}

fn through<'a>(filter: &'static str, expr: Expr<'a>) -> Expr<'a> {
    let span = expr.span();
    Expr::Filter(Spanned::new(Filter { name: filter, expr: Some(expr), args: Vec::new() }, span))
}

/// A name, fit for a message.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}
