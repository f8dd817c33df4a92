#!/usr/bin/env python3
"""Prints "PASSED FAILED" of a test runner's result file: meson's testlog.json (one line a test) or JUnit XML."""
import json
import sys
import xml.etree.ElementTree as ET

kind, path = sys.argv[1:]
passed = failed = 0
try:
    if kind == "meson":
        for line in open(path, encoding="utf-8"):
            passed, failed = (passed + 1, failed) if json.loads(line)["result"] == "OK" else (passed, failed + 1)
    else:
        for case in ET.parse(path).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif case.find("skipped") is None:
                passed += 1
except (OSError, ET.ParseError, ValueError):
    failed += 1
# A stage without a test is a broken stage.
print(passed, failed if passed or failed else 1)
