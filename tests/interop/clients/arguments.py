"""The command line that all clients share."""

import argparse


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("url")
    parser.add_argument("cycles", type=int)
    parser.add_argument("--protocol", choices=["HTTP/1.1", "HTTP/2"], default="HTTP/1.1", help="what answers must have")
    parser.add_argument("--ca", help="the certificate to trust")
    parser.add_argument("--pause", type=float, default=0, help="seconds after each cycle")
    return parser.parse_args()
