//! Puts the [`meter`] around what costs.

use cel::common::ast::{CallExpr, Expr, IdedExpr};

use super::{kind::Kind, meter};

/// Puts the meter around several operands.
pub(super) fn spend_all(nodes: &mut [IdedExpr], kinds: &[Kind]) {
    for (node, kind) in nodes.iter_mut().zip(kinds) {
        spend(node, *kind);
    }
}

/// Puts the meter around an operand, unless it is short by its nature. Not around what a macro gathers, which the library
/// recognises by its form, and whose parts were paid for.
pub(super) fn spend(node: &mut IdedExpr, kind: Kind) {
    let is_gathered = |name: &str| name.starts_with('@');
    match &node.expr {
        Expr::Ident(name) if is_gathered(name) => {}
        // The list of one that a macro adds to what it gathers.
        Expr::Literal(_) | Expr::List(_) => {}
        _ if kind.is_sized() => {
            let operand = std::mem::take(node);
            *node = wrapped(meter::SPEND, operand.id, vec![operand]);
        }
        _ => {}
    }
}

pub(super) fn wrapped(function: &str, id: u64, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }) }
}
