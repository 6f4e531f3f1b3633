import os, sys, uuid
import stomp

host, port, token, device, chat = (os.environ[name] for name in ("HOST", "PORT", "ACCESS_TOKEN", "DEVICE", "CHAT"))


class Printer(stomp.ConnectionListener):
    def on_message(self, frame):
        print(frame.headers["type"], frame.body, flush=True)


connection = stomp.WSStompConnection([(host, int(port))], ws_path="/ws", header={"Sec-WebSocket-Protocol": "v12.stomp"})
connection.set_listener("printer", Printer())
connection.connect(passcode=token, device=device, wait=True)
connection.subscribe("/replies", id="replies")
connection.subscribe(f"/chats/{chat}", id="chat")
connection.send(f"/chats/{chat}", "hello", key=str(uuid.uuid4()))
sys.stdin.readline()  # until Enter
connection.disconnect()
