//! TLS in front of a server that has none, with a certificate of an authority that no other process trusts.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
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
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let files = Files::make();
        let certificate = CertificateDer::from_pem_slice(&files.read("server.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(&files.read("server.key")).expect("a private key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")));
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a loopback port");
        let url = format!("https://{}", listener.local_addr().expect("a bound listener has an address"));
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
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

/// Keys and certificates in a folder of their own, removed with the value.
struct Files(PathBuf);

impl Files {
    #[expect(clippy::disallowed_methods, reason = "a folder of one test")]
    fn make() -> Self {
        let folder = std::env::temp_dir().join(format!("posthouse-tls-{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder).expect("a folder for keys");
        let files = Self(folder);
        let new =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let authority = ["-subj", "/CN=authority of a test", "-keyout", "ca.key", "-out", "ca.crt"];
        files.openssl(&[&new[..], &authority].concat());
        let server = ["-CA", "ca.crt", "-CAkey", "ca.key", "-subj", "/CN=server of a test"];
        let usage =
            ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
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
