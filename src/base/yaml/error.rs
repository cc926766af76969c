//! Why a text is not YAML that can be read.

use granit_parser::{ErrorKind, Marker, ScanError};

use crate::Place;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at line {}, column {}", place.line, place.column)]
pub struct SyntaxError {
    pub fault: Fault,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("nested more than {} levels deep", crate::DEPTH_MAX)]
    TooDeep,
    #[error("unclosed bracket '{0}'")]
    Unclosed(char),
    #[error("{0}")]
    Grammar(String),
}

impl SyntaxError {
    pub(crate) fn new(place: Place, why: impl Into<String>) -> Self {
        Self {
            fault: Fault::Grammar(why.into()),
            place,
        }
    }
}

impl From<ScanError> for SyntaxError {
    fn from(error: ScanError) -> Self {
        let fault = match error.kind() {
            ErrorKind::RecursionLimitExceeded => Fault::TooDeep,
            ErrorKind::UnclosedFlowCollection { open } => Fault::Unclosed(*open),
            _ => Fault::Grammar(error.info()),
        };
        Self {
            fault,
            place: place(error.marker()),
        }
    }
}

/// The parser's lines begin with one and its columns with zero.
pub(crate) fn place(marker: &Marker) -> Place {
    Place {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    }
}
