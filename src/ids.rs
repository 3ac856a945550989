//! A newtype per name, so that a job's id can never be passed where an attempt's belongs.
//!
//! Invariant: every id that Rollcall makes is a UUIDv7, written as lower-case text with hyphens.
//! Not here: what an id points to, and the ids that carriers make (they are plain text).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id: UUIDv7, so that ids made later sort later.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "two new ids are never equal, so there is no default one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// A tenant.
    BusinessId
);
id!(
    /// One campaign of one business.
    RunId
);
id!(
    /// One number of a run.
    JobId
);
id!(
    /// One dial of a job; also the holder of a slot and a line at the gate.
    AttemptId
);
id!(
    /// One key of one business.
    KeyId
);
id!(
    /// What a voice agent says and may do, in all its versions.
    AgentId
);
id!(
    /// One upload of leads into one run.
    ImportId
);

/// One attempt at the gate, before it has a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The holder.
    pub attempt: AttemptId,
    /// The lowest slot of the business that was free.
    pub slot: i32,
    /// The lowest line that was free.
    pub line: i32,
}

/// A telephone carrier that Rollcall can dial through.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Carrier {
    /// Twilio Programmable Voice.
    Twilio,
    /// Telnyx Voice API.
    Telnyx,
}

impl Carrier {
    /// The word in routes, rows and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Telnyx => "telnyx",
        }
    }
}

impl std::fmt::Display for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
