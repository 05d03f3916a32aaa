// One case of README.md over anything with the interface of a browser's WebSocket. Runs in Node.js and in a page.
const TIMEOUT = 15_000;

export function run(WebSocket, { url, protocols, send, receive, close }) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no end of ${url}`)), TIMEOUT);
    const said = { protocol: "", received: [], code: null };
    const socket = new WebSocket(url, protocols);
    let opened = false;
    let refused = true;
    socket.onopen = () => {
      opened = true;
      said.protocol = socket.protocol;
      for (const text of send) socket.send(text);
      if (close && receive === 0) socket.close(1000);
    };
    socket.onmessage = ({ data }) => {
      said.received.push(data);
      if (close && said.received.length === receive) socket.close(1000);
    };
    // A browser does not say why; `ws` does.
    socket.onerror = ({ message }) => {
      const status = /server response: (\d+)/.exec(message ?? "");
      if (status) refused = Number(status[1]);
    };
    socket.onclose = ({ code }) => {
      clearTimeout(late);
      resolve(opened ? { ...said, code } : { refused });
    };
  });
}
