//! The way to a receiver: straight, or through the proxy that is configured.
//!
//! With a proxy the guard stays where it is: names are looked up here, and the proxy is asked for an address that may be sent to, never for
//! a name, so that it cannot find another one. TLS is then spoken with the receiver by its name, through a tunnel, and so is plain HTTP. The
//! proxy's own address is the operator's choice and not judged.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::Name,
        proxy::{SocksV5, Tunnel},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceExt};

use super::{
    authentication, check,
    overheard::{Overheard, Start},
    phases::{self, Mark},
    proxy::{Exempt, Protocol, Proxy},
    resolver::GuardedResolver,
};
use crate::domain::{address::AddressPolicy, target_check::TargetConnection};

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

type Stream = TokioIo<TcpStream>;
type Opening = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

/// Opens TCP connections to receivers.
#[derive(Debug, Clone)]
pub(super) struct Route {
    straight: HttpConnector<GuardedResolver>,
    through: Option<Arc<Through>>,
}

/// The way through a proxy.
#[derive(Debug)]
struct Through {
    proxy: Proxy,
    exempt: Exempt,
    /// To the proxy, wherever it is.
    to_proxy: HttpConnector<GuardedResolver>,
    /// For receivers.
    resolver: GuardedResolver,
    policy: Arc<AddressPolicy>,
}

/// It was the proxy.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// It cannot be connected to.
    #[error("the proxy cannot be reached")]
    Unreachable(#[source] BoxError),
    /// It does not open the way.
    #[error("{0}")]
    Unwilling(String),
}

impl Route {
    /// Straight to receivers.
    pub(super) fn straight(straight: HttpConnector<GuardedResolver>) -> Self {
        Self { straight, through: None }
    }

    /// Through a proxy, but for what is exempt.
    pub(super) fn through(
        proxy: Proxy,
        exempt: Exempt,
        straight: HttpConnector<GuardedResolver>,
        to_proxy: HttpConnector<GuardedResolver>,
        resolver: GuardedResolver,
        policy: Arc<AddressPolicy>,
    ) -> Self {
        Self { straight, through: Some(Arc::new(Through { proxy, exempt, to_proxy, resolver, policy })) }
    }
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = Opening;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.straight.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Opening {
        match &self.through {
            Some(through) if !through.exempt.has_name(target.host().unwrap_or_default()) => {
                Box::pin(Arc::clone(through).open(self.straight.clone(), target))
            }
            Some(_) | None => {
                let opening = self.straight.call(target);
                Box::pin(async move {
                    let stream: Stream = opening.await?;
                    check::connected(|| {
                        let address = stream.inner().peer_addr().ok()?.ip();
                        Some(TargetConnection { address, through_proxy: false })
                    });
                    Ok(stream)
                })
            }
        }
    }
}

impl Through {
    async fn open(
        self: Arc<Self>,
        straight: HttpConnector<GuardedResolver>,
        target: Uri,
    ) -> Result<Stream, BoxError> {
        let port = target.port_u16().unwrap_or(if target.scheme_str() == Some("https") { 443 } else { 80 });
        let mut failed = None;
        for address in self.addresses(&target).await?.into_iter().take(MAX_ADDRESSES) {
            let destination = Uri::builder()
                .scheme("http")
                .authority(SocketAddr::new(address, port).to_string())
                .path_and_query("/")
                .build()?;
            let opened = if self.exempt.has_address(address) {
                straight.clone().oneshot(destination).await.map_err(BoxError::from)
            } else {
                self.tunnel(destination).await.map_err(BoxError::from)
            };
            match opened {
                Ok(stream) => {
                    let through_proxy = !self.exempt.has_address(address);
                    check::connected(|| Some(TargetConnection { address, through_proxy }));
                    return Ok(stream);
                }
                Err(cause) => failed = Some(cause),
            }
        }
        Err(failed.unwrap_or_else(|| "the host has no address".into()))
    }

    /// The addresses of the receiver that may be sent to.
    async fn addresses(&self, target: &Uri) -> Result<Vec<IpAddr>, BoxError> {
        let host = target.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse() {
            self.policy.check_address(address)?;
            return Ok(vec![address]);
        }
        let name: Name = host.parse()?;
        let found = self.resolver.clone().oneshot(name).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    /// Has the proxy connect to an address. What it answers is bounded: 8 KiB of HTTP, or the messages of SOCKS.
    async fn tunnel(&self, destination: Uri) -> Result<Stream, ProxyError> {
        phases::note(Mark::Proxying);
        let address = self.proxy.address.clone();
        let stream = self.to_proxy.clone().oneshot(address.clone()).await;
        let stream = stream.map_err(|cause| ProxyError::Unreachable(cause.into()))?;
        let unwilling = |cause: &dyn std::error::Error| {
            let detail = cause.source().map(|source| format!(": {source}")).unwrap_or_default();
            ProxyError::Unwilling(format!("{cause}{detail}"))
        };
        match self.proxy.protocol {
            Protocol::Connect => {
                let start = Start::default();
                let overheard = start.clone();
                let mut stream = Some(stream);
                let connected = tower::service_fn(move |_: Uri| {
                    let stream = stream.take().ok_or("there is one connection");
                    let start = overheard.clone();
                    async move { stream.map(|stream| TokioIo::new(Overheard::new(stream.into_inner(), start))) }
                });
                let mut tunnel = Tunnel::new(address, connected);
                if let Some((user, password)) = &self.proxy.credentials {
                    let basic = authentication::basic(user, password);
                    tunnel = tunnel.with_auth(basic.map_err(|cause| unwilling(&cause))?);
                }
                let tunnel = tunnel.call(destination).await.map_err(|cause| match start.status() {
                    Some(200 | 407) | None => unwilling(&cause),
                    Some(status) => ProxyError::Unwilling(format!("it answered `CONNECT` with {status}")),
                })?;
                Ok(TokioIo::new(tunnel.into_inner().into_inner()))
            }
            Protocol::Socks5 => {
                let mut stream = Some(stream);
                let connected = tower::service_fn(move |_: Uri| {
                    let stream = stream.take().ok_or("there is one connection");
                    async move { stream }
                });
                let mut socks = SocksV5::new(address, connected);
                if let Some((user, password)) = &self.proxy.credentials {
                    socks = socks.with_auth(user.clone(), password.clone());
                }
                socks.call(destination).await.map_err(|cause| unwilling(&cause))
            }
        }
    }
}
