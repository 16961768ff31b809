package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

const flannelSubnets = "/run/flannel/subnet.env"

// forward lets the node pass packets on. In a container some of these are the host's, which has set them already.
func forward() {
	for parameter, value := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv6/conf/all/forwarding":        "1",
		"net/ipv6/conf/default/forwarding":    "1",
		"net/bridge/bridge-nf-call-iptables":  "1",
		"net/bridge/bridge-nf-call-ip6tables": "1",
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys", parameter), []byte(value), 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "k3s: %s\n", err)
		}
	}
}

// linkOf names the network link that has an address.
func linkOf(wanted netip.Addr) (string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, link := range links {
		addresses, err := link.Addrs()
		if err != nil {
			return "", err
		}
		for _, address := range addresses {
			if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr() == wanted {
				return link.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no network link has the address %s", wanted)
}

// flannelConfig is flannel's view of the cluster network.
func flannelConfig(clusterCIDRs []netip.Prefix) ([]byte, error) {
	config := map[string]any{"EnableNFTables": true, "Backend": map[string]string{"Type": "vxlan"}, "EnableIPv4": false}
	for _, cidr := range clusterCIDRs {
		if cidr.Addr().Is4() {
			config["EnableIPv4"], config["Network"] = true, cidr
		} else {
			config["EnableIPv6"], config["IPv6Network"] = true, cidr
		}
	}
	return json.Marshal(config)
}

// cniConfig is the chain of plugins that connects a pod, made from what flannel wrote about this node. It stands in for
// flannel's own plugin, which no registry carries.
func cniConfig(flannel string) ([]byte, error) {
	values := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(flannel)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		values[name] = value
	}
	var ranges [][]map[string]netip.Prefix
	var routes []map[string]string
	for _, family := range []struct{ subnet, everything string }{
		{"FLANNEL_SUBNET", "0.0.0.0/0"},
		{"FLANNEL_IPV6_SUBNET", "::/0"},
	} {
		gateway, present := values[family.subnet]
		if !present {
			continue
		}
		subnet, err := netip.ParsePrefix(gateway)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, []map[string]netip.Prefix{{"subnet": subnet.Masked()}})
		routes = append(routes, map[string]string{"dst": family.everything})
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("%s names no subnet", flannelSubnets)
	}
	return json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "cbr0",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": json.Number(values["FLANNEL_MTU"]),
				"ipam": map[string]any{"type": "host-local", "ranges": ranges, "routes": routes},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", "  ")
}
