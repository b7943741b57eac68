// A dispatch may have 65,535 workgroups a dimension, so that larger ones have two.

fn workgroupIndex(id: vec3u, count: vec3u) -> u32 {
  return id.y * count.x + id.x;
}
