//! The judgement: verdicts, results, phases, metrics, series and checks. Pure.
