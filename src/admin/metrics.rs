//! Metrics in the OpenMetrics text format, named after Prometheus' conventions.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Admin;
use super::status::{is_open, seconds};
use crate::engine::snapshot::Snapshot;

/// What is written, gathered at one moment.
#[derive(Debug)]
struct Gathered {
    services: Vec<(String, [u64; 3], bool)>,
    reasons: Vec<(&'static str, u64)>,
    durations: (f64, Vec<(f64, u64)>),
    malformed: u64,
    open: (usize, usize),
    generation: u64,
    reads: u64,
    failures: u64,
    errors: usize,
    stale: usize,
    store: bool,
    read_at: f64,
    started: f64,
    version: &'static str,
}

/// The metrics of the process and of the services of `snapshot`.
///
/// # Errors
/// Never with a text to write into; the writer's type says so.
pub fn text(admin: &Admin, snapshot: &Snapshot) -> Result<String, fmt::Error> {
    let found = admin.sources.health.read();
    let counters = &admin.sources.counters;
    let services = snapshot.services.iter();
    let gathered = Gathered {
        services: services.map(|one| (one.name.to_string(), one.counts.read(), is_open(one))).collect(),
        reasons: counters.reasons().map(|(reason, count)| (reason.as_str(), count)).collect(),
        durations: counters.durations(),
        malformed: counters.read_malformed(),
        open: (admin.sources.open)(),
        generation: snapshot.generation,
        reads: found.reads,
        failures: found.failures,
        errors: found.errors.len(),
        stale: found.stale.len(),
        store: snapshot.store.trouble().is_none(),
        read_at: seconds(found.at),
        started: seconds(admin.started),
        version: admin.version,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(gathered));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

impl prometheus_client::collector::Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge, Histogram, Info};
        let mut family = encoder.encode_descriptor("portcullis_build", "Version and commit", None, Info)?;
        family.encode_info(&[("version", self.version)])?;
        let help = "Requests to a service by what became of them";
        let mut family = encoder.encode_descriptor("portcullis_requests", help, None, Counter)?;
        for (service, counts, _) in &self.services {
            for (decision, count) in ["permit", "deny", "local"].into_iter().zip(counts) {
                let labels = [("service", service.as_str()), ("decision", decision)];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Requests refused, by reason; docs/reasons.md explains each";
        let mut family = encoder.encode_descriptor("portcullis_denials", help, None, Counter)?;
        for (reason, count) in &self.reasons {
            ConstCounter::new(*count).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        let help = "From the head of a request to the end of its answer, streams included";
        let mut family = encoder.encode_descriptor("portcullis_request_duration_seconds", help, None, Histogram)?;
        let (sum, buckets) = &self.durations;
        let count = buckets.iter().map(|(_, count)| count).sum();
        family.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
        let help = "Whether a service is open (1) or answers 503 (0)";
        let mut family = encoder.encode_descriptor("portcullis_service_open", help, None, Gauge)?;
        for (service, _, open) in &self.services {
            ConstGauge::new(i64::from(*open)).encode(family.encode_family(&[("service", service.as_str())])?)?;
        }
        let counters = [
            ("portcullis_malformed_requests", "What was no well-formed HTTP and so no request", self.malformed),
            ("portcullis_reloads", "How often the files were read", self.reads),
            ("portcullis_reload_failures", "How often a file was broken when they were", self.failures),
        ];
        for (name, help, count) in counters {
            ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, Counter)?)?;
        }
        let gauges = [
            ("portcullis_requests_in_flight", "Requests whose answer has not ended", count_of(self.open.0)),
            ("portcullis_streams_open", "Event streams that wait, among them", count_of(self.open.1)),
            ("portcullis_generation", "The generation that serves", self.generation),
            ("portcullis_policy_errors", "Errors in the files as they were read last", count_of(self.errors)),
            ("portcullis_policies_stale", "Broken policies whose last good version serves", count_of(self.stale)),
            ("portcullis_store_reached", "Whether the store answers (1) or is lost (0)", u64::from(self.store)),
        ];
        for (name, help, value) in gauges {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, Gauge)?)?;
        }
        let times = [
            ("portcullis_last_reload_timestamp_seconds", "When the files were read last", self.read_at),
            ("process_start_time_seconds", "When the process began", self.started),
        ];
        for (name, help, value) in times {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, Gauge)?)?;
        }
        Ok(())
    }
}

fn count_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
