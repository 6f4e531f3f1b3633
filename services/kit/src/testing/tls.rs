//! TLS in front of a server that has none, with a certificate of an authority that no other process trusts, and a server without
//! TLS where a client wants it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

/// A listener on loopback that passes on what it decrypts, until the test ends.
pub struct TlsFront {
    /// `https://` and its address.
    pub url: String,
    /// The certificate of its authority, in PEM.
    pub ca_bundle: String,
}

impl TlsFront {
    /// Starts a listener in front of this `host:port`.
    pub async fn start(server: &str) -> Self {
        Self::named(server, "IP:127.0.0.1").await
    }

    /// Starts one whose certificate has this name, as openssl writes it (`DNS:elsewhere.example`), and not its address.
    pub async fn named(server: &str, name: &str) -> Self {
        Self::asked(server, name, Ipv4Addr::LOCALHOST, false).await
    }

    /// Starts one at the address of a server that tells clients its own, with another port. Its certificate has that address.
    pub async fn beside(server: &str) -> Self {
        let host = server.split(':').next().unwrap_or_default();
        let address = host.parse().expect("the address of a server");
        Self::asked(server, &format!("IP:{address}"), address, false).await
    }

    /// Starts one in front of PostgreSQL, of which a client asks for TLS before that begins.
    pub async fn postgres(server: &str, name: &str) -> Self {
        Self::asked(server, name, Ipv4Addr::LOCALHOST, true).await
    }

    /// Returns its `host:port`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("https://").expect("a URL of HTTPS")
    }

    /// `is_asked` says that a client asks for TLS first, as one of PostgreSQL does.
    async fn asked(server: &str, name: &str, at: Ipv4Addr, is_asked: bool) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let files = Files::make(name);
        let certificate = CertificateDer::from_pem_slice(&files.read("server.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(&files.read("server.key")).expect("a private key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")));
        let listener = TcpListener::bind((at, 0)).await.expect("a port of this machine");
        let url = format!("https://{}", listener.local_addr().expect("a bound listener has an address"));
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    if is_asked {
                        // `SSLRequest`, and the answer that there is TLS.
                        stream.read_exact(&mut [0; 8]).await.expect("a request");
                        stream.write_all(b"S").await.expect("an answer");
                    }
                    // A client that does not trust the certificate ends it here.
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let mut inside = TcpStream::connect(server).await.expect("the server answers");
                    drop(copy_bidirectional(&mut outside, &mut inside).await);
                });
            }
        });
        let ca_bundle = String::from_utf8(files.read("ca.crt")).expect("PEM is text");
        Self { url, ca_bundle }
    }
}

/// Listens for one connection on loopback, gives this answer to its first eight bytes, and says nothing else. Returns its
/// `host:port`, and all that the client sends.
pub async fn without_tls(answer: &'static [u8]) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port of this machine");
    let address = listener.local_addr().expect("a bound listener has an address").to_string();
    let receiving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut bytes = vec![0; 8];
        stream.read_exact(&mut bytes).await.expect("it begins");
        stream.write_all(answer).await.expect("it is answered");
        drop(stream.shutdown().await);
        // The client ends it, perhaps without a word.
        drop(stream.read_to_end(&mut bytes).await);
        bytes
    });
    (address, receiving)
}

/// Keys and certificates in a folder of their own, removed with the value.
struct Files(PathBuf);

impl Files {
    #[expect(clippy::disallowed_methods, reason = "a folder of one test")]
    fn make(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("posthouse-tls-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder).expect("a folder for keys");
        let files = Self(folder);
        let new =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let authority = ["-subj", "/CN=authority of a test", "-keyout", "ca.key", "-out", "ca.crt"];
        files.openssl(&[&new[..], &authority].concat());
        let server = ["-CA", "ca.crt", "-CAkey", "ca.key", "-subj", "/CN=server of a test"];
        let name = format!("subjectAltName={name}");
        let usage = ["-addext", name.as_str(), "-addext", "basicConstraints=critical,CA:FALSE"];
        let out = ["-keyout", "server.key", "-out", "server.crt"];
        files.openssl(&[&new[..], &server, &usage, &out].concat());
        files
    }

    fn openssl(&self, arguments: &[&str]) {
        let made =
            Command::new("openssl").args(arguments).current_dir(&self.0).stderr(Stdio::null()).status();
        assert!(made.expect("openssl runs").success(), "openssl {}", arguments.join(" "));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(Path::new(&self.0).join(name)).expect("openssl has written it")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
