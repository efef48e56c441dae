//! ZooKeeper: one standalone server or a real ensemble of three.
//!
//! Owns the folders `zookeeper*` of the stack. Must not use the system's configuration. Invariants: loopback only,
//! transactions are forced to disk (the default), and sessions may be as short as one second.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};

use crate::member::Member;
use crate::ports;
use crate::ready::Probe;
use crate::spec::Spec;
use crate::start::{Context, joined, node_name};

struct Node {
    name: String,
    client: SocketAddr,
    quorum: SocketAddr,
    election: SocketAddr,
}

/// Starts all nodes at once: an ensemble serves only when a majority of it runs.
pub(crate) fn start(context: &Context) -> Result<Vec<Member>> {
    let count = context.options.zookeeper_nodes;
    let nodes: Vec<Node> = (1..=count)
        .map(|number| {
            Ok(Node {
                name: node_name("zookeeper", number, count),
                client: ports::free()?,
                quorum: ports::free()?,
                election: ports::free()?,
            })
        })
        .collect::<Result<_>>()?;
    let members: Vec<Member> =
        (0..nodes.len()).map(|index| member(context, &nodes, index)).collect::<Result<_>>()?;
    thread::scope(|scope| {
        let starts: Vec<_> = members.iter().map(|member| scope.spawn(|| member.start())).collect();
        starts.into_iter().try_for_each(joined)
    })?;
    Ok(members)
}

fn member(context: &Context, nodes: &[Node], index: usize) -> Result<Member> {
    let node = &nodes[index];
    let home = context.folder(&node.name)?;
    let config = home.join("zoo.cfg");
    let seen = context.options.zookeeper_quorum.map(|quorum| quorum[index]);
    fs::write(&config, configuration(nodes, node, seen, &home))
        .and_then(|()| fs::write(home.join("myid"), format!("{}\n", index + 1)))
        .with_context(|| format!("cannot write {}", home.display()))?;
    let mut args: Vec<String> = [
        "-Xmx256m",
        "-XX:+UseSerialGC",
        // A killed JVM would leave its counters in /tmp.
        "-XX:-UsePerfData",
        "-Djava.net.preferIPv4Stack=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
        "-Dzookeeper.4lw.commands.whitelist=*",
        "-Dzookeeper.admin.enableServer=false",
    ]
    .map(str::to_owned)
    .to_vec();
    args.push(format!("-Djava.io.tmpdir={}", home.display()));
    // After the defaults, so that a caller can replace one.
    args.extend(context.options.zookeeper_jvm_flags.iter().cloned());
    args.extend(["-cp".to_owned(), context.programs.zookeeper_classpath.clone()]);
    args.push("org.apache.zookeeper.server.quorum.QuorumPeerMain".to_owned());
    args.push(config.display().to_string());
    let mut spec = Spec::new(&node.name, &context.programs.java, args, &home, &context.log(&node.name));
    spec.env.push(("HOME".to_owned(), home.display().to_string()));
    Ok(context.member(spec, node.client, Probe::ZooKeeper))
}

/// `seen`: the quorum addresses that this server is told, if they are not the nodes' own.
fn configuration(nodes: &[Node], own: &Node, seen: Option<[SocketAddr; 3]>, home: &Path) -> String {
    let mut text = format!(
        "tickTime=1000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\nminSessionTimeout=1000\n\
         maxSessionTimeout=60000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
         dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\n",
        home.display(),
        own.client.port()
    );
    if nodes.len() > 1 {
        for (index, node) in nodes.iter().enumerate() {
            let quorum = seen.map_or(node.quorum, |seen| seen[index]);
            // Invariant: writing to a String cannot fail.
            let _ = writeln!(text, "server.{}={quorum}:{}", index + 1, node.election.port());
        }
    }
    text
}
