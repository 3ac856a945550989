"""What counts as a fault of ours: any 5xx but the refusal of a call where there is no room for it now."""

import schemathesis


@schemathesis.check
def no_fault_of_ours(ctx, response, case):
    if response.status_code < 500:
        return
    slug = ""
    if "json" in response.headers.get("content-type", [""])[0]:
        slug = response.json().get("type", "")
    full = response.status_code == 503 and slug == "/problems/at-capacity" and response.headers.get("retry-after")
    assert full, f"{case.method} {case.path} answered {response.status_code}: {response.text[:300]}"
