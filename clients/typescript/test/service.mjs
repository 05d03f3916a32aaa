// The service behind the endpoints of resume: it hears of ends, and says which tokens are good.
import { createServer } from "node:http";

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString() || "null");
}

export async function startService() {
  const ended = [];
  const seen = new Set();
  const server = createServer(async (request, response) => {
    const body = await bodyOf(request);
    if (request.url === "/disconnect") ended.push(body);
    // `once-…` is good until it is looked at again, `good-…` always. They are of one user.
    const token = String(body?.access_token ?? "");
    const isGood = token.startsWith("good-") || (token.startsWith("once-") && !seen.has(token));
    seen.add(token);
    const isRefused = request.url === "/check" && !isGood;
    response.writeHead(isRefused ? 401 : 200, { "content-type": "application/json" });
    response.end(request.url === "/check" ? JSON.stringify({ sub: "ann" }) : "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: (path) => `http://127.0.0.1:${server.address().port}${path}`,
    disconnects: async (id) => ended.filter(({ connectionId }) => connectionId === id),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
