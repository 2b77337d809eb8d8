//! Why a frame was refused: one closed list with status, code and sentence.

use super::{FRAME_DEADLINE, REPORTER_NAME_MAX};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::report::{FRAME_BYTES_MAX, FRAME_MEDIA_TYPE, FRAME_ROWS_MAX, FRAME_VERSION, REPORTERS_MAX};

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// No token, or a wrong one.
    #[error("the bearer token is missing or wrong")]
    Unauthorized,
    /// The sender is known and is not heard: not an activator, or one that speaks for another.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody could tell whose the token is.
    #[error("whose token it is cannot be checked now")]
    Unchecked,
    /// Another media type.
    #[error("expected content-type {FRAME_MEDIA_TYPE}")]
    MediaType,
    /// More bytes than [`FRAME_BYTES_MAX`].
    #[error("a frame has at most {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// More rows or names than [`FRAME_ROWS_MAX`].
    #[error("a frame has at most {FRAME_ROWS_MAX} rows and as many names")]
    TooManyRows,
    /// More reporters than [`REPORTERS_MAX`].
    #[error("at most {REPORTERS_MAX} reporters are listened to")]
    TooManyReporters,
    /// A reporter without a name, or with too long a one.
    #[error("a reporter's name has 1 to {REPORTER_NAME_MAX} bytes")]
    ReporterName,
    /// Another major version of the format.
    #[error("version {0} of the format is not understood; this autoscaler speaks version {FRAME_VERSION}")]
    Version(u64),
    /// No frame.
    #[error("not a frame: {0}")]
    Malformed(String),
    /// The sender broke off.
    #[error("the frame broke off")]
    Broken,
    /// The body took longer than [`FRAME_DEADLINE`].
    #[error("the frame did not arrive within {FRAME_DEADLINE:?}")]
    Slow,
    /// It was not handled within [`FRAME_DEADLINE`].
    #[error("the autoscaler is busy")]
    Busy,
    /// The autoscaler is going away.
    #[error("the autoscaler is stopping")]
    Stopping,
}

impl IngestError {
    /// Every code, for metrics and their documentation.
    pub const CODES: &'static [&'static str] = &[
        "unauthorized",
        "forbidden",
        "unchecked",
        "media_type",
        "too_large",
        "too_many_rows",
        "too_many_reporters",
        "reporter_name",
        "version",
        "malformed",
        "broken",
        "slow",
        "busy",
        "stopping",
    ];

    /// A stable word: the metric's label and the body's `code`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::Unchecked => "unchecked",
            Self::MediaType => "media_type",
            Self::TooLarge => "too_large",
            Self::TooManyRows => "too_many_rows",
            Self::TooManyReporters => "too_many_reporters",
            Self::ReporterName => "reporter_name",
            Self::Version(_) => "version",
            Self::Malformed(_) => "malformed",
            Self::Broken => "broken",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge | Self::TooManyRows => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyReporters => StatusCode::TOO_MANY_REQUESTS,
            Self::ReporterName | Self::Version(_) | Self::Malformed(_) | Self::Broken => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Unchecked | Self::Busy | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for IngestError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code(), "message": self.to_string() }).to_string();
        (self.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
