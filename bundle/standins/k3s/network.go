package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

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
