// The browser's word that there is a network again. Node.js has none.

type Network = { addEventListener?: unknown; removeEventListener?: unknown };

export function addOnlineListener(listener: () => void): void {
  const { addEventListener } = globalThis as Network;
  if (typeof addEventListener === "function") globalThis.addEventListener("online", listener);
}

export function removeOnlineListener(listener: () => void): void {
  const { removeEventListener } = globalThis as Network;
  if (typeof removeEventListener === "function") globalThis.removeEventListener("online", listener);
}
