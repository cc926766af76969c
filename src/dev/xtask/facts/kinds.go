package main

import (
	"reflect"
	"sort"

	admissionv1 "k8s.io/api/admission/v1"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// served lists the group versions that a default 1.36 control plane answers for, and those it speaks to webhooks
// and clients with. No beta of the built-in groups is on by default; metrics is an aggregated API of ours.
var served = []schema.GroupVersion{
	{Group: "", Version: "v1"},
	{Group: "admission.k8s.io", Version: "v1"},
	{Group: "admissionregistration.k8s.io", Version: "v1"},
	{Group: "apidiscovery.k8s.io", Version: "v2"},
	{Group: "apiextensions.k8s.io", Version: "v1"},
	{Group: "apiregistration.k8s.io", Version: "v1"},
	{Group: "apps", Version: "v1"},
	{Group: "authentication.k8s.io", Version: "v1"},
	{Group: "authorization.k8s.io", Version: "v1"},
	{Group: "autoscaling", Version: "v1"},
	{Group: "autoscaling", Version: "v2"},
	{Group: "batch", Version: "v1"},
	{Group: "certificates.k8s.io", Version: "v1"},
	{Group: "coordination.k8s.io", Version: "v1"},
	{Group: "discovery.k8s.io", Version: "v1"},
	{Group: "events.k8s.io", Version: "v1"},
	{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"},
	{Group: "meta.k8s.io", Version: "v1"},
	{Group: "metrics.k8s.io", Version: "v1beta1"},
	{Group: "networking.k8s.io", Version: "v1"},
	{Group: "node.k8s.io", Version: "v1"},
	{Group: "policy", Version: "v1"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"},
	{Group: "resource.k8s.io", Version: "v1"},
	{Group: "scheduling.k8s.io", Version: "v1"},
	{Group: "storage.k8s.io", Version: "v1"},
}

type kind struct {
	group, version, name string
	goType               reflect.Type
}

// kinds returns every kind of the served group versions, sorted by group, version and name.
func kinds() []kind {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, admissionv1.AddToScheme, apidiscoveryv2.AddToScheme,
		apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme, metricsv1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			fatal("%v", err)
		}
	}
	found := []kind{}
	for _, gv := range served {
		for name, goType := range scheme.KnownTypes(gv) {
			// What every group version shares is listed once, in meta.k8s.io.
			if goType.PkgPath() == "k8s.io/apimachinery/pkg/apis/meta/v1" && gv.Group != "meta.k8s.io" {
				continue
			}
			found = append(found, kind{gv.Group, gv.Version, name, goType})
		}
	}
	found = append(found, metaKinds()...)
	sort.Slice(found, func(i, j int) bool {
		a, b := found[i], found[j]
		if a.group != b.group {
			return a.group < b.group
		}
		if a.version != b.version {
			return a.version < b.version
		}
		return a.name < b.name
	})
	return found
}

func metaKinds() []kind {
	found := []kind{}
	for _, example := range []any{
		metav1.APIGroup{}, metav1.APIGroupList{}, metav1.APIResourceList{}, metav1.APIVersions{},
		metav1.CreateOptions{}, metav1.DeleteOptions{}, metav1.GetOptions{}, metav1.ListOptions{},
		metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadataList{}, metav1.PatchOptions{},
		metav1.Status{}, metav1.Table{}, metav1.TableOptions{}, metav1.UpdateOptions{}, metav1.WatchEvent{},
		metav1.ObjectMeta{}, metav1.ListMeta{}, metav1.LabelSelector{},
	} {
		goType := reflect.TypeOf(example)
		found = append(found, kind{"meta.k8s.io", "v1", goType.Name(), goType})
	}
	return found
}
