//! A build as BuildKit's `--progress=rawjson` tells it, on standard error: a document a line, of vertexes (steps), logs and
//! warnings, as its API's `SolveStatus` (`client/graph.go`). A vertex is told when it begins and when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Clock, show};
use crate::build::Progress;
use crate::store::Digest;

/// The documents.
pub(super) struct Documents {
    /// Steps that have begun, here and beside.
    count: Arc<AtomicUsize>,
    /// The step that has no end yet.
    now: Mutex<Option<Value>>,
    clock: Clock,
}

/// What a command writes, wherever to: a step's container has one pipe for both.
const STDOUT: u32 = 1;

impl Documents {
    pub(super) fn new(clock: Clock) -> Documents {
        Documents::after(Arc::default(), clock)
    }

    fn after(count: Arc<AtomicUsize>, clock: Clock) -> Documents {
        Documents {
            count,
            now: Mutex::new(None),
            clock,
        }
    }

    fn time(&self) -> String {
        self.clock.now().to_string()
    }

    fn ends(&self, how: Option<(&str, Value)>) {
        if let Some(mut vertex) = self.now.lock().take() {
            vertex["completed"] = json!(self.time());
            if let Some((key, value)) = how {
                vertex[key] = value;
            }
            document("vertexes", vertex);
        }
    }
}

fn document(kind: &str, one: Value) {
    show(format!("{}\n", json!({ kind: [one] })).as_bytes());
}

/// One that fails is never told to be done.
impl Drop for Documents {
    fn drop(&mut self) {
        self.fails();
    }
}

impl Progress for Documents {
    fn begins(&self, title: &str) {
        self.ends(None);
        let number = 1 + self.count.fetch_add(1, Ordering::Relaxed);
        let digest = Digest::of(format!("{number} {title}").as_bytes());
        let vertex = json!({ "digest": digest, "name": title, "started": self.time() });
        document("vertexes", vertex.clone());
        *self.now.lock() = Some(vertex);
    }

    fn cached(&self) {
        self.ends(Some(("cached", json!(true))));
    }

    fn output(&self, bytes: &[u8]) {
        if let Some(vertex) = &*self.now.lock() {
            let data = STANDARD.encode(bytes);
            let log = json!({ "vertex": vertex["digest"], "stream": STDOUT, "data": data, "timestamp": self.time() });
            document("logs", log);
        }
    }

    fn done(&self) {
        self.ends(None);
    }

    fn fails(&self) {
        self.ends(Some(("error", json!("did not complete"))));
    }

    fn warning(&self, text: &str) {
        let vertex = self.now.lock().as_ref().map(|vertex| vertex["digest"].clone());
        let short = STANDARD.encode(text);
        document(
            "warnings",
            json!({ "vertex": vertex, "level": 1, "short": short }),
        );
    }

    fn beside(&self) -> Box<dyn Progress + '_> {
        Box::new(Documents::after(Arc::clone(&self.count), self.clock.clone()))
    }
}
