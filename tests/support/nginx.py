"""What every configuration of nginx in a test has in it: where it keeps what is temporary, `place`."""

TEMPORARY = """\
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
"""
