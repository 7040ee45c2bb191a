"""For ASGI servers: ``uvicorn config.asgi:application``."""

import os
import warnings

from django.core.asgi import get_asgi_application

# Of static files, which Django itself serves here, and reads as files are read.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_asgi_application()
