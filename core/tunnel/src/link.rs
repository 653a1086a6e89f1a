//! The one setting of a network device that the packet loops depend on.

use std::io;

use rustix::net::{AddressFamily, SocketType, recv, send, socket};

/// So large that a super-packet's capsules just fit one UDP_SEGMENT send.
const MOST_SUPER_PACKET: u32 = 60_000;

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFLA_IFNAME: u16 = 3;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const NLMSG_HEADER: usize = 16;

/// Limits the super-packets of the device `name` to what one send takes.
pub(crate) fn limit_super_packets(name: &str) -> io::Result<()> {
    let request = request(name);
    // Protocol 0 of this family is rtnetlink.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    send(&socket, &request, rustix::net::SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = recv(&socket, &mut answer, rustix::net::RecvFlags::empty())?;
    let error = answer[..length].get(NLMSG_HEADER..NLMSG_HEADER + 4);
    match error
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes)
    {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A message of rtnetlink: header, struct ifinfomsg (16 bytes, all open), attributes.
fn request(name: &str) -> Vec<u8> {
    let mut name: Vec<u8> = name.into();
    name.push(0);
    let mut body = vec![0; 16];
    attribute(&mut body, IFLA_IFNAME, &name);
    attribute(
        &mut body,
        IFLA_GSO_MAX_SIZE,
        &MOST_SUPER_PACKET.to_ne_bytes(),
    );
    let mut message = Vec::new();
    message.extend(((NLMSG_HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}
