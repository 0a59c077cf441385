//! Names that no event has and that the template does not set: slips of the pen, that would be written as nothing for ever.

use minijinja::{
    Environment,
    machinery::{
        self, Token,
        ast::{Expr, Stmt},
    },
    syntax::SyntaxConfig,
};

use super::{guard::Refused, names};

/// Looks for the first of them in a template that was let through.
pub(super) fn check(source: &str, parsed: &Stmt<'_>) -> Result<(), Refused> {
    let environment = Environment::empty();
    // It compiles, as it was let through.
    let Ok(template) = environment.template_from_str(source) else { return Ok(()) };
    let mut set = Vec::new();
    names_set(parsed, &mut set);
    // What is set on one way only, the library counts as unknown behind it.
    let unknown = template.undeclared_variables(false).into_iter();
    let unknown =
        unknown.filter(|name| !names::ALL.contains(&name.as_str()) && !set.contains(&name.as_str()));
    match unknown.map(|name| (offset(source, &name), name)).min() {
        None => Ok(()),
        Some((offset, name)) => {
            let (name, known) = (name.chars().take(64).collect::<String>(), names::ALL.join("`, `"));
            Err(Refused { reason: format!("there is no `{name}`; there are `{known}`"), offset })
        }
    }
}

/// Names that are set anywhere.
fn names_set<'a>(stmt: &Stmt<'a>, set: &mut Vec<&'a str>) {
    let mut all = |stmts: &[Stmt<'a>]| stmts.iter().for_each(|stmt| names_set(stmt, set));
    match stmt {
        Stmt::Template(node) => all(&node.children),
        Stmt::ForLoop(node) => {
            all(&node.body);
            all(&node.else_body);
            names_in(&node.target, set);
        }
        Stmt::IfCond(node) => {
            all(&node.true_body);
            all(&node.false_body);
        }
        Stmt::WithBlock(node) => {
            all(&node.body);
            node.assignments.iter().for_each(|(target, _)| names_in(target, set));
        }
        Stmt::Set(node) => names_in(&node.target, set),
        // Others set nothing, or were not let through.
        _ => {}
    }
}

fn names_in<'a>(target: &Expr<'a>, set: &mut Vec<&'a str>) {
    match target {
        Expr::Var(node) => set.push(node.id),
        Expr::List(node) => node.items.iter().for_each(|item| names_in(item, set)),
        Expr::Tuple(node) => node.items.iter().for_each(|item| names_in(item, set)),
        _ => {}
    }
}

/// Where a name is first read: not as an attribute, a filter, or the name of an argument.
fn offset(source: &str, name: &str) -> usize {
    let tokens: Vec<_> = machinery::tokenize(source, false, SyntaxConfig::default())
        .map_while(std::result::Result::ok)
        .collect();
    let is_read = |index: usize| {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before)).map(|(token, _)| token);
        let after = tokens.get(index + 1).map(|(token, _)| token);
        !matches!(before, Some(Token::Dot | Token::Pipe)) && !matches!(after, Some(Token::Assign))
    };
    let found = tokens.iter().enumerate().find(|(index, (token, _))| {
        matches!(token, Token::Ident(ident) if *ident == name) && is_read(*index)
    });
    found.map_or(0, |(_, (_, span))| span.start_offset as usize)
}
