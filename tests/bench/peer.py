"""The same objects, managed by what a user without this collection has: community.general's modules, and `uri` for the rest."""


def tasks(lab):
    """Tasks that find everything as it is."""
    url = f"unix:{lab.lxd.socket}"
    project = lab.find_project()
    return [
        {
            "community.general.lxd_project": {
                "name": lab.project,
                "description": project["description"],
                "config": project["config"],
                "url": url,
            }
        },
        *_by_uri(lab, "storage-pools", lab.pool),
        *_by_uri(lab, "networks", lab.network),
        *(_profile(lab, name, url) for name in ("capi-base", "capi-bootstrap", "capi-controlplane", "capi-worker")),
        _instance(lab, url),
    ]


def _by_uri(lab, collection, name):
    """Read, and compare with what is wanted; the creation is skipped, as on every run but the first."""
    answer = f"{collection.replace('-', '_')}_answer"
    path = f"http://lxd/1.0/{collection}"
    live = lab.lxd.get(f"{collection}/{name}")
    wanted = {key: value for key, value in live["config"].items() if not key.startswith("volatile.")}
    return [
        {
            "ansible.builtin.uri": {
                "url": f"{path}/{name}",
                "unix_socket": str(lab.lxd.socket),
                "status_code": [200, 404],
            },
            "register": answer,
        },
        {
            "ansible.builtin.uri": {
                "url": path,
                "method": "POST",
                "unix_socket": str(lab.lxd.socket),
                "body_format": "json",
                "body": {"name": name, "config": wanted},
            },
            "when": f"{answer}.status == 404",
        },
        {
            "ansible.builtin.assert": {
                "that": [f"{answer}.json.metadata.config['{key}'] == '{value}'" for key, value in wanted.items()],
            }
        },
    ]


def _profile(lab, name, url):
    live = lab.find_profile(name)
    arguments = {key: live[key] for key in ("name", "description", "config", "devices")}
    return {"community.general.lxd_profile": arguments | {"project": lab.project, "url": url}}


def _instance(lab, url):
    live = lab.find_instance()
    return {
        "community.general.lxd_container": {
            "name": lab.instance,
            "project": lab.project,
            "state": "started",
            "profiles": live["profiles"],
            "config": {key: value for key, value in live["config"].items() if key.startswith("user.")},
            "ignore_volatile_options": True,
            "url": url,
        }
    }
