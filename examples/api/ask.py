"""Asks an HTTP API about each record of JSONL, and adds the answer to the record.

The API is at `url` in settings.yaml. Requests that may succeed later are tried three times. A record that the API
refuses is rejected.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

from parcelq.step import reject, step

ATTEMPTS = 3


@step(each=True)
def ask(line: str, settings: dict[str, str]) -> str:
    record = json.loads(line)
    query = urllib.parse.urlencode({"latitude": record["latitude"], "longitude": record["longitude"]})
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(f"{settings['url']}?{query}", timeout=10) as answer:
                return json.dumps({**record, "answer": json.load(answer)})
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                reject(line, f"the API refused it: {error.code} {error.reason}")
            problem: Exception = error
        except (urllib.error.URLError, TimeoutError) as error:
            problem = error
        time.sleep(attempt)
    raise problem


if __name__ == "__main__":
    ask.main()
