//! A registry that misbehaves as a test wants: HTTP/1.1 by hand, over TLS or not, so that every byte can be wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server does.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// What Content-Length says, if it is sent.
    claims: Option<u64>,
    /// How much of the body is sent before the connection is closed.
    sends: usize,
    /// How long nothing happens before that.
    waits: Duration,
    /// How long before each byte of the body.
    drips: Duration,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let sends = body.len();
        Answer {
            status,
            headers: Vec::new(),
            claims: Some(body.len() as u64),
            body,
            sends,
            waits: Duration::ZERO,
            drips: Duration::ZERO,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A Content-Length that is not true.
    pub fn claiming(self, length: u64) -> Answer {
        Answer {
            claims: Some(length),
            ..self
        }
    }

    /// No Content-Length: the body ends with the connection.
    pub fn without_length(self) -> Answer {
        Answer { claims: None, ..self }
    }

    /// Closes the connection after so many bytes of the body.
    pub fn cut_after(self, bytes: usize) -> Answer {
        Answer { sends: bytes, ..self }
    }

    /// Sends the head, then half of the body, then waits before it sends the rest.
    pub fn waiting(self, waits: Duration) -> Answer {
        Answer { waits, ..self }
    }

    /// Sends the body byte by byte, and waits before each.
    pub fn dripping(self, drips: Duration) -> Answer {
        Answer { drips, ..self }
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        write!(to, "HTTP/1.1 {} X\r\nConnection: close\r\n", self.status)?;
        if let Some(length) = self.claims {
            write!(to, "Content-Length: {length}\r\n")?;
        }
        for (name, value) in &self.headers {
            write!(to, "{name}: {value}\r\n")?;
        }
        to.write_all(b"\r\n")?;
        let sent = &self.body[..self.sends.min(self.body.len())];
        if !self.drips.is_zero() {
            for byte in sent {
                std::thread::sleep(self.drips);
                to.write_all(&[*byte])?;
                to.flush()?;
            }
            return Ok(());
        }
        let (first, second) = sent.split_at(sent.len() / 2);
        to.write_all(first)?;
        std::thread::sleep(self.waits);
        to.write_all(second)?;
        to.flush()
    }
}

/// The server; its thread ends with the test's process.
pub struct Hostile {
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Hostile {
    /// Answers each request with what `answer` says.
    pub fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Hostile {
        Hostile::serve_at("127.0.0.1:0", answer)
    }

    /// The same at an address of its own.
    pub fn serve_at(address: &str, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Hostile {
        Hostile::listen(address, None, answer)
    }

    /// The same over TLS, with this certificate and its key.
    pub fn serve_tls(
        address: &str,
        certificate: &Path,
        key: &Path,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Hostile {
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("its key");
        let tls = ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(vec![certificate], key);
        Hostile::listen(address, Some(Arc::new(tls.expect("a pair"))), answer)
    }

    fn listen(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Hostile {
        let listener = TcpListener::bind(address).expect("the address");
        let address = listener.local_addr().expect("its address").to_string();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log, tls) = (answer.clone(), log.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve_one(stream, &log, &*answer),
                    Some(tls) => {
                        let server = ServerConnection::new(tls).expect("a TLS connection");
                        serve_one(StreamOwned::new(server, stream), &log, &*answer);
                    }
                });
            }
        });
        Hostile { address, seen }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All requests so far whose path contains `part`.
    pub fn seen(&self, part: &str) -> Vec<Request> {
        let seen = self.seen.lock().expect("the log");
        seen.iter()
            .filter(|request| request.path.contains(part))
            .cloned()
            .collect()
    }
}

/// Answers the one request of a connection. A client that goes away is part of the tests.
fn serve_one(mut stream: impl Read + Write, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) {
    if let Some(request) = read(&mut stream) {
        log.lock().expect("the log").push(request.clone());
        drop(answer(&request).write(&mut stream));
    }
}

/// Reads a request. Where no TLS was promised, its hello closes the connection, as a plain registry does.
fn read(stream: &mut impl Read) -> Option<Request> {
    let mut lines = BufReader::new(stream);
    let start = lines.fill_buf().ok()?.first().copied()?;
    if !start.is_ascii_uppercase() {
        return None;
    }
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
    {
        lines.take(length).read_to_end(&mut body).ok()?;
    }
    Some(Request {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// An image in memory, by its blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    pub manifest: Vec<u8>,
    pub blobs: HashMap<String, Vec<u8>>,
    /// The digest of its first layer's blob.
    pub layer: String,
    /// The diff ids, lowest first.
    pub diff_ids: Vec<String>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// A tar with one file of `size` bytes that do not compress.
pub fn tar(name: &str, size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = Vec::with_capacity(size);
    while noise.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_le_bytes()[4..]);
    }
    noise.truncate(size);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, name, noise.as_slice())
        .expect("a tar entry");
    builder.into_inner().expect("a tar")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

impl Blobs {
    /// An image of layers given as (blob, diff id).
    pub fn of(layers: &[(Vec<u8>, String)]) -> Blobs {
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Blobs::with_config(serde_json::to_vec(&config).expect("JSON"), layers)
    }

    /// The same with any bytes as the config.
    pub fn with_config(config: Vec<u8>, layers: &[(Vec<u8>, String)]) -> Blobs {
        let describe = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter()
                .map(|(blob, _)| describe("application/vnd.oci.image.layer.v1.tar+gzip", blob)).collect::<Vec<_>>(),
        });
        let blobs = layers.iter().map(|(blob, _)| blob).chain([&config]);
        Blobs {
            manifest: serde_json::to_vec(&manifest).expect("JSON"),
            layer: layers.first().map(|(blob, _)| digest(blob)).unwrap_or_default(),
            diff_ids: layers.iter().map(|(_, diff_id)| diff_id.clone()).collect(),
            blobs: blobs.map(|blob| (digest(blob), blob.clone())).collect(),
        }
    }

    /// One gzip layer with one file of `size` bytes.
    pub fn small(size: usize) -> Blobs {
        let tar = tar("file", size);
        Blobs::of(&[(gzip(&tar), digest(&tar))])
    }

    /// What an honest registry answers.
    pub fn answer(&self, request: &Request) -> Answer {
        if request.path.contains("/manifests/") {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            return Answer::new(200, self.manifest.clone()).header("Content-Type", media_type);
        }
        let blob = request
            .path
            .rsplit('/')
            .next()
            .and_then(|digest| self.blobs.get(digest));
        blob.map_or(Answer::new(404, ""), |blob| Answer::new(200, blob.clone()))
    }

    /// Writes an OCI image layout that holds it under `name`.
    pub fn write_layout(&self, dir: &Path, name: &str) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a directory");
        let manifest = digest(&self.manifest);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest, "size": self.manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        }]});
        let all = self.blobs.iter().chain([(&manifest, &self.manifest)]);
        for (digest, bytes) in all {
            std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).expect("a blob");
        }
        std::fs::write(dir.join("index.json"), index.to_string()).expect("the index");
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("the version");
    }

    /// Whether the request is for the first layer.
    pub fn is_layer(&self, request: &Request) -> bool {
        request.path.ends_with(&self.layer)
    }
}
