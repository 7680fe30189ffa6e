//! The conversions of CEL (`int`, `double`, `string`), refusing whatever would lose its meaning.

use super::super::facts::Cause;
use super::evaluate::{Outcome, overflow, wrong};
use super::node::Function;
use super::value::Datum;

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "CEL's conversions, bounds checked")]
pub(super) fn convert<'f>(function: Function, value: Datum<'f>) -> Outcome<'f> {
    match (function, value) {
        (Function::Int, value @ Datum::Int(_)) | (Function::String, value @ Datum::Text(_)) => Ok(value),
        (Function::Double, value @ Datum::Double(_)) => Ok(value),
        (Function::Int, Datum::Uint(number)) => i64::try_from(number).map(Datum::Int).map_err(|_| overflow()),
        (Function::Int, Datum::Double(number)) if number.abs() < 9_223_372_036_854_775_000.0 => {
            Ok(Datum::Int(number as i64))
        }
        (Function::Int, Datum::Text(text)) => {
            text.parse().map(Datum::Int).map_err(|_| Cause::Borrowed("a text is not a number"))
        }
        (Function::Double, Datum::Int(number)) => Ok(Datum::Double(number as f64)),
        (Function::Double, Datum::Uint(number)) => Ok(Datum::Double(number as f64)),
        (Function::String, Datum::Int(number)) => Ok(Datum::Text(number.to_string().into())),
        (Function::String, Datum::Uint(number)) => Ok(Datum::Text(number.to_string().into())),
        (Function::String, Datum::Bool(value)) => Ok(Datum::Text(value.to_string().into())),
        _ => wrong(),
    }
}
