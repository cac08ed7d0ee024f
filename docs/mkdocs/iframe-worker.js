// Browsers start no worker from file://. There the search runs in a hidden frame that looks like a worker from outside.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html>";
      this.inside = new Promise((ready) => {
        frame.addEventListener("load", () => {
          const inside = frame.contentWindow;
          // What the worker sends arrives here, and not as a message of the frame to itself.
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          inside.importScripts = (...urls) => Promise.all(urls.map((each) => this.load(inside, each)));
          this.load(inside, url).then(() => ready(inside));
        }, { once: true });
      });
      this.frame = frame;
      document.body.append(frame);
    }

    load(inside, url) {
      const script = inside.document.createElement("script");
      script.src = new URL(url, location.href).href;
      return new Promise((loaded, failed) => {
        script.addEventListener("load", loaded);
        script.addEventListener("error", failed);
        inside.document.body.append(script);
      });
    }

    set onmessage(listener) {
      this.addEventListener("message", listener);
    }

    async postMessage(data) {
      const inside = await this.inside;
      inside.dispatchEvent(new inside.MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
