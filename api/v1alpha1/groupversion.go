// Package v1alpha1 is the API that platform teams and admins write: AtlasStack, a whole platform in one object,
// AtlasJob, one background job of it, and AtlasSchedule, which makes AtlasJobs again and again. Defaults and validation live in the generated CRD only; no controller writes into spec.
//
// +kubebuilder:object:generate=true
// +groupName=platform.atlas.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "platform.atlas.dev", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &AtlasStack{}, &AtlasStackList{}, &AtlasJob{}, &AtlasJobList{}, &AtlasSchedule{}, &AtlasScheduleList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
