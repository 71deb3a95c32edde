//! Prometheus text (exposition format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::Ordering;

use landfall_predict::{BUCKETS_S, HistogramSnapshot, StatisticsSnapshot, VersionState};

use super::requests::{GrpcMethod, HTTP_CODES, HttpMethod};
use crate::clock::epoch_ms;
use crate::serving::{SERVER_VERSION, Server};

/// All metrics of a server.
pub fn render(server: &Server) -> String {
    let mut out = Text(String::with_capacity(16 << 10));
    out.family("landfall_build_info", "gauge", "The version that is running.");
    out.sample("landfall_build_info", &format!("version=\"{SERVER_VERSION}\""), 1);
    out.family("landfall_ready", "gauge", "Whether the server takes requests.");
    out.sample("landfall_ready", "", u8::from(server.health.is_ready()));
    if let Some(bytes) = resident_bytes() {
        out.family("process_resident_memory_bytes", "gauge", "Resident memory.");
        out.sample("process_resident_memory_bytes", "", bytes);
    }
    write_requests(&mut out, server);
    write_states(&mut out, server);
    let now = epoch_ms();
    let snapshots: Vec<(String, StatisticsSnapshot)> = server
        .catalog
        .servables()
        .iter()
        .map(|servable| {
            let name = escape(servable.name());
            let labels = format!("model=\"{name}\",version=\"{}\"", servable.version());
            (labels, servable.statistics(now))
        })
        .collect();
    write_models(&mut out, &snapshots);
    write_stages(&mut out, &snapshots);
    write_aliases(&mut out, &snapshots);
    out.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &HistogramSnapshot) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in BUCKETS_S.iter().zip(&histogram.cumulative) {
            self.sample(&bucket, &format!("{labels},le=\"{bound}\""), count);
        }
        self.sample(&bucket, &format!("{labels},le=\"+Inf\""), histogram.count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum_s);
        self.sample(&format!("{name}_count"), labels, histogram.count);
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn write_requests(out: &mut Text, server: &Server) {
    let (count, seconds) = ("landfall_requests_total", "landfall_request_seconds");
    out.family(count, "counter", "Requests by protocol, method and status code.");
    let http = || HttpMethod::ALL.iter().zip(&server.metrics.http);
    let grpc = || GrpcMethod::ALL.iter().zip(&server.metrics.grpc);
    // Zeros too: a rate needs the value before the first event.
    let mut sample = |protocol: &str, method: &str, code: &str, value: u64| {
        let labels = format!("protocol=\"{protocol}\",method=\"{method}\",code=\"{code}\"");
        out.sample(count, &labels, value);
    };
    for (method, series) in http() {
        for (code, value) in HTTP_CODES.iter().zip(&series.codes.0) {
            let code = if *code == 0 { "other".to_owned() } else { code.to_string() };
            sample("http", method.name(), &code, value.load(Ordering::Relaxed));
        }
    }
    for (method, series) in grpc() {
        for (code, value) in series.codes.0.iter().enumerate() {
            sample("grpc", method.name(), &code.to_string(), value.load(Ordering::Relaxed));
        }
    }
    out.family(seconds, "histogram", "From a request's head to its reply, by protocol and method.");
    let mut histogram = |protocol: &str, method: &str, histogram: HistogramSnapshot| {
        let labels = format!("protocol=\"{protocol}\",method=\"{method}\"");
        out.histogram(seconds, &labels, &histogram);
    };
    http().for_each(|(method, s)| histogram("http", method.name(), s.seconds.snapshot()));
    grpc().for_each(|(method, s)| histogram("grpc", method.name(), s.seconds.snapshot()));
}

fn write_states(out: &mut Text, server: &Server) {
    let name = "landfall_model_ready";
    out.family(name, "gauge", "Whether a version answers requests.");
    for status in server.catalog.index() {
        let version = status.version.map_or(String::new(), |version| version.to_string());
        let labels = format!("model=\"{}\",version=\"{version}\"", escape(&status.model));
        out.sample(name, &labels, u8::from(status.state == VersionState::Ready));
    }
}

type Value = fn(&StatisticsSnapshot) -> u64;

fn write_models(out: &mut Text, snapshots: &[(String, StatisticsSnapshot)]) {
    let name = "landfall_model_requests_total";
    out.family(name, "counter", "Requests of a version by outcome.");
    let outcomes: [(&str, Value); 5] = [
        ("success", |s| s.success.count),
        ("fail", |s| s.fail.count),
        ("queue_full", |s| s.refused_queue_full),
        ("expired", |s| s.expired),
        ("cancelled", |s| s.cancelled),
    ];
    for (labels, snapshot) in snapshots {
        for (outcome, value) in &outcomes {
            out.sample(name, &format!("{labels},outcome=\"{outcome}\""), value(snapshot));
        }
    }
    let families: [(&str, &str, &str, Value); 5] = [
        ("landfall_rows_total", "counter", "Rows inferred.", |s| s.inference_count),
        ("landfall_runs_total", "counter", "Successful runs of the model.", |s| s.execution_count),
        ("landfall_queued_requests", "gauge", "Requests waiting.", |s| s.queued_requests),
        ("landfall_queued_rows", "gauge", "Rows waiting.", |s| s.queued_rows),
        ("landfall_running", "gauge", "Runs going on.", |s| s.running),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for (labels, snapshot) in snapshots {
            out.sample(name, labels, value(snapshot));
        }
    }
}

fn write_stages(out: &mut Text, snapshots: &[(String, StatisticsSnapshot)]) {
    let name = "landfall_inference_seconds";
    out.family(name, "histogram", "Time of successful requests by stage.");
    for (labels, s) in snapshots {
        for (stage, histogram) in [
            ("queue", &s.queue_seconds),
            ("preprocess", &s.preprocess_seconds),
            ("compute", &s.compute_seconds),
            ("postprocess", &s.postprocess_seconds),
            ("total", &s.total_seconds),
        ] {
            out.histogram(name, &format!("{labels},stage=\"{stage}\""), histogram);
        }
    }
}

/// The names that dashboards made for Triton look for.
fn write_aliases(out: &mut Text, snapshots: &[(String, StatisticsSnapshot)]) {
    let families: [(&str, &str, Value); 9] = [
        ("nv_inference_request_success", "counter", |s| s.success.count),
        ("nv_inference_request_failure", "counter", |s| s.fail.count),
        ("nv_inference_count", "counter", |s| s.inference_count),
        ("nv_inference_exec_count", "counter", |s| s.execution_count),
        ("nv_inference_request_duration_us", "counter", |s| s.success.ns / 1000),
        ("nv_inference_queue_duration_us", "counter", |s| s.queue.ns / 1000),
        ("nv_inference_compute_input_duration_us", "counter", |s| s.compute_input.ns / 1000),
        ("nv_inference_compute_infer_duration_us", "counter", |s| s.compute_infer.ns / 1000),
        ("nv_inference_compute_output_duration_us", "counter", |s| s.compute_output.ns / 1000),
    ];
    for (name, kind, value) in families {
        out.family(name, kind, "The same value under the name that Triton gives it.");
        for (labels, snapshot) in snapshots {
            out.sample(name, labels, value(snapshot));
        }
    }
}

/// Resident memory, where `/proc` exists.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
