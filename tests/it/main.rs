//! Whole promises on real stores and real processes: one file per promise.

mod leaves_nothing;
