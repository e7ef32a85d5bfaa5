//! TCP connections of core modules.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Caller;

use crate::outbound::log_failure;
use crate::state::State;

/// Bytes read from a socket at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// What the answer to a read is, beside what was read.
const AROUND_DATA_BYTES: usize = r#"{"bytes_read":1048576,"data":""}"#.len();

/// What the original host says, and so what programs look for.
const END: &str = "EOF";

/// The sockets of one instance.
#[derive(Default)]
pub(super) struct Sockets {
    /// By the number a guest knows it by; each has its place among the requests at once.
    open: BTreeMap<u32, (TcpStream, OwnedSemaphorePermit)>,
    last: u32,
}

impl Sockets {
    fn get(&mut self, fd: u32) -> Result<&mut TcpStream, String> {
        self.open.get_mut(&fd).map(|(socket, _)| socket).ok_or_else(|| no_socket(fd))
    }
}

fn no_socket(fd: u32) -> String {
    format!("there is no socket {fd}")
}

#[derive(Deserialize)]
struct Asked {
    operation: String,
    network: Option<String>,
    address: Option<String>,
    fd: Option<u32>,
    /// Base64.
    data: Option<String>,
    size: Option<usize>,
}

impl Asked {
    /// 0 is nobody's.
    fn fd(&self) -> u32 {
        self.fd.unwrap_or_default()
    }
}

/// The answer to one operation, of which the guest takes `room` bytes.
pub(super) async fn json(caller: &mut Caller<'_, State>, message: &[u8], room: u32) -> Vec<u8> {
    let answer = match serde_json::from_slice(message) {
        Ok(asked) => operate(caller, asked, room as usize).await,
        Err(error) => Err(format!("the request cannot be read: {error}")),
    };
    answer.unwrap_or_else(|error| json!({ "error": error })).to_string().into_bytes()
}

async fn operate(caller: &mut Caller<'_, State>, asked: Asked, room: usize) -> Result<Value, String> {
    let sockets = &mut caller.data_mut().core().outside.sockets;
    match asked.operation.as_str() {
        "dial" => dial(caller, &asked).await,
        "read" => read(sockets.get(asked.fd())?, asked.size.unwrap_or_default(), room).await,
        "write" => {
            let socket = sockets.get(asked.fd())?;
            let bytes = STANDARD.decode(asked.data.unwrap_or_default()).map_err(|_| "`data` is not base64".to_owned())?;
            socket.write_all(&bytes).await.map_err(|error| format!("cannot write: {}", error.kind()))?;
            Ok(json!({ "bytes_sent": bytes.len() }))
        }
        "close" => match sockets.open.remove(&asked.fd()) {
            Some(_) => Ok(json!({})),
            None => Err(no_socket(asked.fd())),
        },
        other => Err(format!("there is no operation `{other}`; there are dial, read, write and close")),
    }
}

async fn dial(caller: &mut Caller<'_, State>, asked: &Asked) -> Result<Value, String> {
    let (network, address) = (asked.network.as_deref().unwrap_or_default(), asked.address.as_deref().unwrap_or_default());
    if !matches!(network, "" | "tcp" | "tcp4" | "tcp6") {
        return Err(format!("the network `{network}` is not supported; `tcp` is"));
    }
    let active = caller.data().active();
    let place = caller.data_mut().core().outside.budget.take().ok_or_else(|| "the limit of connections is reached".to_owned())?;
    let socket = active.core.egress.dial(&active.equipment.policy, address, None).await.map_err(|error| {
        log_failure(&active.equipment, Some(active.id), Some(address), &error);
        // The rest, such as addresses, is for the log.
        match error {
            egress::Error::Denied(_) | egress::Error::AddressProhibited(_) => "the address is not allowed".to_owned(),
            egress::Error::InvalidUri(_) => "the address is not a host and a port".to_owned(),
            egress::Error::ConnectionTimeout => "the connection did not come in time".to_owned(),
            _ => "cannot connect".to_owned(),
        }
    })?;
    let sockets = &mut caller.data_mut().core().outside.sockets;
    sockets.last += 1;
    sockets.open.insert(sockets.last, (socket, place));
    Ok(json!({ "fd": sockets.last }))
}

/// Reads up to `size` bytes, and no more than the answer has room for: what was read and cannot be handed over would be lost.
async fn read(socket: &mut TcpStream, size: usize, room: usize) -> Result<Value, String> {
    // In base64 three bytes become four.
    let fits = (room.saturating_sub(AROUND_DATA_BYTES) / 4 * 3).min(READ_BYTES_MAX);
    if fits == 0 {
        return Err("the answer has no room for data".to_owned());
    }
    let mut bytes = vec![0; size.clamp(1, fits)];
    match socket.read(&mut bytes).await {
        Ok(0) => Err(END.to_owned()),
        Ok(read) => Ok(json!({ "data": STANDARD.encode(&bytes[..read]), "bytes_read": read })),
        Err(error) => Err(format!("cannot read: {}", error.kind())),
    }
}

#[cfg(test)]
mod tests {
    use base::tests_support::{assert_documented, size};

    use super::*;

    #[test]
    fn the_documentation_has_these_numbers() {
        assert_documented("bytes of one read from a socket", size(READ_BYTES_MAX));
    }
}
