// A WebSocket that comes back: after a broken connection it tries again, ever more slowly.

const FIRST_WAIT = 250;
const LONGEST_WAIT = 2000;

export class Link {
  /** `on` has the functions open(), text(message), frame(buffer) and state("open" | "lost" | "refused"). */
  constructor(path, on) {
    this.path = path;
    this.on = on;
    this.wait = FIRST_WAIT;
    this.closed = false;
    this.connect();
  }

  connect() {
    const address = new URL(this.path, document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.hash = "";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    let opened = false;
    this.socket.onopen = () => {
      opened = true;
      this.wait = FIRST_WAIT;
      this.on.state?.("open");
      this.on.open?.();
    };
    this.socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.on.text?.(JSON.parse(data));
      else this.on.frame?.(data);
    };
    this.socket.onclose = () => this.again(opened);
  }

  async again(opened) {
    if (this.closed) return;
    this.on.state?.("lost");
    if (!opened && (await this.refused())) this.on.state?.("refused");
    if (this.closed) return;
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
  }

  /** Whether the server is there and does not know this browser (any more). */
  async refused() {
    try {
      const answer = await fetch("./", { method: "HEAD", cache: "no-store" });
      return answer.status === 401 || answer.status === 403;
    } catch {
      return false;
    }
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}
