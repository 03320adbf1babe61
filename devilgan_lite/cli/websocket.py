"""Small messages leave Jupyter's server at once, which saves 40 ms on every move of a slider.

By default a small message waits on the socket until the browser has acknowledged the one before (Nagle's algorithm),
and the browser's system takes up to 40 ms over that.
"""

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """For the setting ``kernel_websocket_connection_class`` of JupyterLab."""

    def connect(self) -> Any:
        self.websocket_handler.set_nodelay(True)
        return super().connect()
