// Lines between a client and its gateway that can break: cut, they end without a word and let nobody through; stalled,
// they carry nothing and do not end.
import { connect, createServer } from "node:net";

/** By their address. */
const lines = new Map();

export async function openLine(plan, node) {
  const colon = plan.nodes[node].client.lastIndexOf(":");
  const [host, port] = [plan.nodes[node].client.slice(0, colon), Number(plan.nodes[node].client.slice(colon + 1))];
  const line = { ends: new Set(), isCut: false, isStalled: false };
  line.server = createServer({ allowHalfOpen: true }, (near) => {
    near.on("error", () => undefined);
    if (line.isCut) return near.resetAndDestroy();
    const far = connect({ host, port, allowHalfOpen: true });
    for (const [end, other] of [[near, far], [far, near]]) {
      line.ends.add(end);
      end.on("data", (data) => other.write(data)).on("end", () => other.end());
      end.on("error", () => undefined).on("close", (isBroken) => {
        line.ends.delete(end);
        if (isBroken || !other.writableEnded) other.destroy();
      });
      if (line.isStalled) end.pause();
    }
  });
  await new Promise((resolve) => line.server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${line.server.address().port}`;
  lines.set(address, line);
  return address;
}

export async function cutLine(address) {
  const line = lines.get(address);
  line.isCut = true;
  for (const end of [...line.ends]) end.resetAndDestroy();
}

export async function mendLine(address) {
  lines.get(address).isCut = false;
}

export async function stallLine(address) {
  const line = lines.get(address);
  line.isStalled = true;
  for (const end of line.ends) end.pause();
}

export async function flowLine(address) {
  const line = lines.get(address);
  line.isStalled = false;
  for (const end of line.ends) end.resume();
}

/** All of them, with what goes over them. */
export function closeLines() {
  for (const { server, ends } of lines.values()) {
    server.close();
    for (const end of [...ends]) end.destroy();
  }
  lines.clear();
}
