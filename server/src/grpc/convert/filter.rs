//! What a subscription asks of events beyond their type, and what came of that.

use postrider_proto::v1 as pb;

use crate::{
    domain::{
        conditions::{AttributeCondition, AttributeTest, Conditions, Judgement},
        invalid::Invalid,
    },
    publish::Explanation,
};

/// Reads a filter; one that asks for nothing is none.
pub(super) fn conditions(filter: &pb::EventFilter) -> Result<Option<Conditions>, Invalid> {
    let attributes = filter.attributes.iter().enumerate().map(|(index, condition)| {
        attribute(condition).map_err(|invalid| invalid.within(&format!("attributes[{index}]")))
    });
    let conditions = Conditions::parse(attributes.collect::<Result<_, _>>()?, &filter.expression)?;
    Ok((!conditions.is_empty()).then_some(conditions))
}

fn attribute(condition: &pb::AttributeCondition) -> Result<AttributeCondition, Invalid> {
    let test = match &condition.test {
        Some(pb::attribute_condition::Test::Equals(text)) => AttributeTest::Equals(text.clone()),
        Some(pb::attribute_condition::Test::Prefix(text)) => AttributeTest::Prefix(text.clone()),
        None => return Err(Invalid::new("test", "is missing: set `equals` or `prefix`")),
    };
    AttributeCondition::parse(condition.key.clone(), test)
}

/// Shows a filter.
pub(super) fn to_filter(conditions: &Conditions) -> pb::EventFilter {
    let attribute = |condition: &AttributeCondition| pb::AttributeCondition {
        key: condition.key.clone(),
        test: Some(match &condition.test {
            AttributeTest::Equals(text) => pb::attribute_condition::Test::Equals(text.clone()),
            AttributeTest::Prefix(text) => pb::attribute_condition::Test::Prefix(text.clone()),
        }),
    };
    pb::EventFilter {
        attributes: conditions.attributes.iter().map(attribute).collect(),
        expression: conditions.expression.clone().unwrap_or_default(),
    }
}

/// Shows whether a subscription would get an event.
pub(in crate::grpc) fn to_explanation(
    subscription: String,
    explanation: Explanation,
) -> pb::EventExplanation {
    let mut shown = pb::EventExplanation { subscription, ..pb::EventExplanation::default() };
    let verdict = match explanation {
        Explanation::Disabled => pb::MatchVerdict::Disabled,
        Explanation::EventType => pb::MatchVerdict::EventType,
        Explanation::Judged(Judgement::Wanted) => pb::MatchVerdict::Matches,
        Explanation::Judged(Judgement::Attribute(index)) => {
            shown.attribute_index = i32::try_from(index).unwrap_or(i32::MAX);
            pb::MatchVerdict::Attribute
        }
        Explanation::Judged(Judgement::False) => pb::MatchVerdict::ExpressionFalse,
        Explanation::Judged(Judgement::Failed(failure)) => {
            shown.failure_message = failure.to_string();
            pb::MatchVerdict::ExpressionFailed
        }
    };
    shown.verdict = verdict.into();
    shown
}
