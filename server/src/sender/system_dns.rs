//! The name servers and the hosts file that the system is set up with: `/etc/resolv.conf` and `/etc/hosts`. They are read again
//! when they change, as the C library does, so that a node survives a move to another network.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// For how long an answer is used at most: a receiver that moves is found by new connections after this.
const LONGEST_MEMORY: Duration = Duration::from_mins(1);
/// For how long it is remembered at most that there is no answer: a receiver that was just set up is found after this.
const LONGEST_MISS: Duration = Duration::from_secs(5);
/// The most questions on one TCP connection to a name server: more than there are attempts that ask.
const MAX_QUESTIONS: usize = 4_096;

/// The system's way to find addresses. Nothing is read before the first lookup.
#[derive(Debug)]
pub(super) struct SystemDns {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    sources: Sources,
    versions: [Option<SystemTime>; 2],
    looked: Instant,
}

/// What the files call for. The clones share what they remember.
#[derive(Debug, Clone)]
struct Sources {
    hosts: Arc<Hosts>,
    servers: TokioResolver,
}

impl Default for SystemDns {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), current: Mutex::default() }
    }
}

impl SystemDns {
    /// The addresses of a name: those of the hosts file, or else those that the name servers know.
    pub(super) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let Sources { hosts, servers } = self.sources()?;
        let listed = in_hosts(&hosts, name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        Ok(servers.lookup_ip(name).await?.iter().collect())
    }

    fn sources(&self) -> Result<Sources, NetError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_mut() {
            if current.looked.elapsed() < INTERVAL {
                return Ok(current.sources.clone());
            }
            current.looked = Instant::now();
            if current.versions == self.versions() {
                return Ok(current.sources.clone());
            }
        }
        let versions = self.versions();
        let sources = Sources { hosts: Arc::new(read_hosts(&self.hosts)), servers: self.servers()? };
        *current = Some(Current { sources: sources.clone(), versions, looked: Instant::now() });
        Ok(sources)
    }

    fn versions(&self) -> [Option<SystemTime>; 2] {
        [&self.resolv_conf, &self.hosts].map(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
    }

    fn servers(&self) -> Result<TokioResolver, NetError> {
        let (config, options) = match fs::read(&self.resolv_conf) {
            Ok(text) => parse_resolv_conf(text)?,
            // What the C library does then (resolv.conf(5)).
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                (this_machine(), ResolverOpts::default())
            }
            Err(cause) => return Err(cause.into()),
        };
        asking(config, options)
    }
}

fn asking(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, NetError> {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // It would ask for IPv6 addresses although the file lists the host with an IPv4 address.
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_max_ttl = Some(LONGEST_MEMORY);
    options.negative_max_ttl = Some(LONGEST_MISS);
    options.max_active_requests = MAX_QUESTIONS;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

/// The addresses that the hosts file lists.
fn in_hosts(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_utf8(name) else {
        return Vec::new();
    };
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)))
        .flat_map(|found| {
            found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
        })
        .collect()
}

fn this_machine() -> ResolverConfig {
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    ResolverConfig::from_parts(None, Vec::new(), addresses.map(NameServerConfig::udp_and_tcp).into())
}

/// A hosts file that cannot be read holds no hosts.
fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    let read = fs::File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    if let Err(cause) = read {
        let path = path.display();
        tracing::debug!(cause = &cause as &dyn std::error::Error, %path, "the hosts file is not used");
    }
    hosts
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_resolver::config::ConnectionConfig;
    use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

    use super::*;

    fn dns_in(folder: &Path) -> SystemDns {
        let (resolv_conf, hosts) = (folder.join("resolv.conf"), folder.join("hosts"));
        SystemDns { resolv_conf, hosts, current: Mutex::default() }
    }

    async fn found(dns: &SystemDns, name: &str) -> Vec<String> {
        dns.look_up(name).await.unwrap().iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn the_hosts_file_counts_and_is_read_again_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let dns = dns_in(folder.path());
        fs::write(&dns.hosts, "192.0.2.1 one.test\n").unwrap();
        assert_eq!(found(&dns, "one.test").await, ["192.0.2.1"]);

        fs::write(&dns.hosts, "192.0.2.2 one.test\n2001:db8::2 one.test\n").unwrap();
        let hosts = fs::File::options().append(true).open(&dns.hosts).unwrap();
        hosts.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(found(&dns, "one.test").await, ["192.0.2.1"], "it is not looked at each time");
        dns.current.lock().unwrap().as_mut().unwrap().looked -= INTERVAL;
        assert_eq!(found(&dns, "one.test").await, ["192.0.2.2", "2001:db8::2"]);
    }

    #[tokio::test]
    async fn without_any_file_localhost_is_still_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(found(&dns_in(folder.path()), "localhost").await.contains(&"127.0.0.1".to_owned()));
    }

    #[tokio::test]
    async fn name_servers_and_their_options_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let dns = dns_in(folder.path());
        fs::write(&dns.resolv_conf, "nameserver 192.0.2.53\noptions ndots:5 timeout:1\n").unwrap();
        let servers = dns.servers().unwrap();
        assert_eq!((servers.options().ndots, servers.options().timeout), (5, Duration::from_secs(1)));
    }

    /// A name server that gives every name the address 192.0.2.7, but says nothing to names that begin with `s`; and how often it answered.
    async fn name_server(serving: &mut JoinSet<()>) -> (u16, Arc<AtomicUsize>) {
        /// Type A, class IN, for a minute, four bytes.
        const ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (port, answers) = (socket.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let answered = Arc::clone(&answers);
        serving.spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((_, asker)) = socket.recv_from(&mut buffer).await {
                let name = buffer[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
                if buffer[13].eq_ignore_ascii_case(&b's') {
                    continue;
                }
                let is_ipv4 = buffer[name..name + 2] == [0, 1];
                let mut answer = buffer[..name + 4].to_vec();
                answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
                answer.extend_from_slice(if is_ipv4 { &ANSWER } else { &[] });
                answered.fetch_add(usize::from(is_ipv4), Ordering::SeqCst);
                socket.send_to(&answer, asker).await.unwrap();
            }
        });
        (port, answers)
    }

    fn dns_asking(port: u16) -> SystemDns {
        let mut server =
            NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![ConnectionConfig::udp()]);
        server.connections[0].port = port;
        let servers =
            asking(ResolverConfig::from_parts(None, Vec::new(), vec![server]), ResolverOpts::default());
        let sources = Sources { hosts: Arc::default(), servers: servers.unwrap() };
        let dns = SystemDns { resolv_conf: PathBuf::new(), hosts: PathBuf::new(), current: Mutex::default() };
        let versions = dns.versions();
        *dns.current.lock().unwrap() = Some(Current { sources, versions, looked: Instant::now() });
        dns
    }

    #[tokio::test]
    async fn names_whose_servers_are_silent_hold_up_no_others_however_many_they_are() {
        let mut tasks = JoinSet::new();
        let (port, _) = name_server(&mut tasks).await;
        let dns = Arc::new(dns_asking(port));
        for number in 0..1_000 {
            let dns = Arc::clone(&dns);
            tasks.spawn(async move {
                let _never = dns.look_up(&format!("s{number}.test.")).await;
            });
        }
        tokio::task::yield_now().await;
        let answer = timeout(Duration::from_secs(4), found(&dns, "quick.test.")).await;
        assert_eq!(answer.expect("the others are still waiting"), ["192.0.2.7"]);
    }

    #[tokio::test]
    async fn a_name_is_not_asked_for_again_while_its_answer_lasts() {
        let mut tasks = JoinSet::new();
        let (port, answers) = name_server(&mut tasks).await;
        let dns = dns_asking(port);
        for _ in 0..3 {
            assert_eq!(found(&dns, "quick.test.").await, ["192.0.2.7"]);
        }
        assert_eq!(answers.load(Ordering::SeqCst), 1);
    }
}
